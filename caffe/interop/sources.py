"""The files that can be imported, by the names that a user gives them."""

from __future__ import annotations

from caffe.interop import resnet101, vgg16
from caffe.interop.layout import Layout
from caffe.interop.ssd_layouts import DETECTORS

#: what each name is, for help and messages
TITLES: dict[str, str] = {
    **{name: source.layout.title for name, source in vgg16.SOURCES.items()},
    **{name: " or ".join(layout.layout.title for layout in sizes.values()) for name, sizes in DETECTORS.items()},
    "torchvision_resnet101": resnet101.LAYOUT.title,
    "safetensors": "a caffemodel that was exported with -to safetensors",
}

#: every layout by name, to say which one a file has
LAYOUTS: dict[str, Layout] = {
    **{name: source.layout for name, source in vgg16.SOURCES.items() if name != "torchvision_vgg16_features"},
    **{name: layout.layout for name, sizes in DETECTORS.items() for _, layout in sorted(sizes.items())},
    "torchvision_resnet101": resnet101.LAYOUT,
}
