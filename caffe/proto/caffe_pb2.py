"""The messages of caffe.proto as Python classes, under the module name that Caffe's users import.

Built from the compiled descriptor beside it at import, by protobuf's public API, so that no generated code ties the
project to one protobuf release; caffe_pb2.pyi tells type checkers what is here. `make proto` compiles both again after
a change of caffe.proto. The descriptors live in a pool of their own, so that another package's "caffe.proto" (there are
several on the package index) does no harm.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_files = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("caffe.desc").read_bytes())
_pool = descriptor_pool.DescriptorPool()
for _file in _files.file:
    _pool.Add(_file)

DESCRIPTOR = _pool.FindFileByName("caffe.proto")
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    _class = message_factory.GetMessageClass(_message)
    # Copying and pickling look the class up by its module.
    _class.__module__ = __name__
    globals()[_name] = _class
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({_value.name: _value.number for _value in _enum.values})
