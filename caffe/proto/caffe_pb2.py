"""The messages of caffe.proto as Python classes, under the module name that Caffe's users import.

Built from the compiled descriptor beside it at import, by protobuf's public API, so that no generated code ties the
project to one protobuf release. `make proto` compiles the descriptor again after a change of caffe.proto.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_files = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("caffe.desc").read_bytes())
_pool = descriptor_pool.DescriptorPool()
for _file in _files.file:
    _pool.Add(_file)

DESCRIPTOR = _pool.FindFileByName("caffe.proto")
globals().update(
    {name: message_factory.GetMessageClass(d) for name, d in DESCRIPTOR.message_types_by_name.items()}
)
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({v.name: v.number for v in _enum.values})


def __getattr__(name: str) -> Any:
    raise AttributeError(f"caffe.proto has no message or enum '{name}'")
