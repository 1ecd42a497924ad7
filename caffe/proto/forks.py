"""Which public fork of Caffe fields and layer types come from that this project does not have: for error messages."""

from __future__ import annotations

_FIELDS: dict[str, dict[str, str]] = {
    "PSPNet's Caffe (hszhao/PSPNet)": {
        "LayerParameter": "adaptive_bias_channel_param bias_channel_param dense_crf_param domain_transform_param "
        "mat_read_param mat_write_param seg_accuracy_param unique_label_param",
        "TransformationParameter": "scale_factors crop_width crop_height",
        "ImageDataParameter": "ignore_label label_type",
        "BatchNormParameter": "update_global_stats",
    },
    "SegNet's Caffe (alexgkendall/caffe-segnet)": {
        "LayerParameter": "dense_image_data_param",
        "LossParameter": "weight_by_label_freqs class_weighting",
        "DropoutParameter": "sample_weights_test",
    },
    "MobileNet-YOLO (eric612/MobileNet-YOLO)": {
        "LayerParameter": "region_loss_param yolov3_param yolo_seg_param segmentation_evaluate_param "
        "yolo_detection_output_param yolov3_detection_output_param",
        "AnnotatedDataParameter": "yolo_data_type yolo_data_jitter train_diffcult single_class seg_scales "
        "seg_resize_width seg_resize_height difficult_label_warmup",
    },
    "RefineDet (sfzhang15/RefineDet)": {
        "DetectionOutputParameter": "objectness_score",
        "MultiBoxLossParameter": "objectness_score",
    },
    "TSN's Caffe (yjxiong/caffe)": {
        "LayerParameter": "seg_data_param batch_reduction_param",
        "NetParameter": "mem_param",
        "ConvolutionParameter": "dilation_h dilation_w",
        "ReductionParameter": "k",
        "TransformationParameter": "fix_crop more_fix_crop multi_scale scale_ratios max_distort is_flow "
        "original_image upper_size upper_height upper_width",
        "VideoDataParameter": "source batch_size rand_skip shuffle new_height new_width new_length num_segments scale "
        "mean_file crop_size mirror modality name_pattern encoded grayscale",
    },
    "CAFFE_SSD (lzx1413/CAFFE_SSD)": {
        "LayerParameter": "focal_loss_param",
        "InterpParameter": "use_blob_size",
    },
    "Caffe itself, after the SSD branch left it (BVLC/caffe)": {
        "InfogainLossParameter": "axis",
    },
    "TextBoxes (MhLiao/TextBoxes)": {
        "PriorBoxParameter": "denser_prior_boxes",
    },
    "R-FCN's Caffe with deformable layers": {
        "LayerParameter": "deformable_convolution_param",
    },
    "NVIDIA's Caffe (NVIDIA/caffe)": {
        "LayerParameter": "forward_type backward_type forward_math backward_math cudnn_math_override debug "
        "detectnet_groundtruth_param detectnet_augmentation_param",
        "NetParameter": "default_forward_type default_backward_type default_forward_math default_backward_math "
        "global_grad_scale reduce_buckets",
        "BatchNormParameter": "scale_bias scale_filler bias_filler engine",
        "ConvolutionParameter": "cudnn_convolution_algo_seeker",
    },
    "Intel's Caffe (intel/caffe)": {
        "LayerParameter": "engine quantization_param multinode_param mn_param_grad_compress_param",
        "NetParameter": "engine compile_net_state multinode",
    },
}

_TYPES: dict[str, str] = {
    "PSPNet's Caffe (hszhao/PSPNet)": "AdaptiveBiasChannel BiasChannel DenseCRF DomainTransform ImageSegData MatRead "
    "MatWrite SegAccuracy UniqueLabel",
    "SegNet's Caffe (alexgkendall/caffe-segnet)": "DenseImageData",
    "MobileNet-YOLO (eric612/MobileNet-YOLO)": "RegionLoss YoloSeg Yolov3 GaussianYolov3 YoloDetectionOutput "
    "Yolov3DetectionOutput SegmentationEvaluate HardSwish Mish",
    "TSN's Caffe (yjxiong/caffe)": "SegData BatchReduction",
    "CAFFE_SSD (lzx1413/CAFFE_SSD)": "FocalLoss",
    "R-FCN's Caffe with deformable layers": "DeformableConvolution DeformablePSROIPooling",
    "NVIDIA's Caffe (NVIDIA/caffe)": "DetectNetTransformation L1Loss",
    "OpenPose's and Realtime Multi-Person Pose Estimation's Caffe": "CPMData CPMDataLambda OPData Nms ImResize",
    "FlowNet2 (lmb-freiburg/flownet2)": "Correlation Correlation1D FlowWarp Resample ChannelNorm CustomData "
    "DataAugmentation GenerateAugmentationParameters LpqLoss Mean FlowAugmentation",
    "COCO-Stuff's and FCN's Caffe": "SegmentationLoss",
    "DeepID and face recognition forks": "CenterLoss MarginInnerProduct LargeMarginInnerProduct LabelSpecificAdd "
    "LabelSpecificMarginInnerProduct NormalizeLayer TripletLoss",
    "SqueezeNet's, ESPNet's and ICNet's Caffe": "Silu",
}

FORK_OF_TYPE: dict[str, str] = {name: fork for fork, names in _TYPES.items() for name in names.split()}
"""A layer type that this project does not have → the fork that has it."""

_FORK_OF_FIELD = {
    (message, name): fork
    for fork, messages in _FIELDS.items()
    for message, names in messages.items()
    for name in names.split()
}


def fork_of_field(message: str, name: str) -> str | None:
    """The fork whose `message` ("LayerParameter") has a field of this name; None if no such fork is known."""
    return _FORK_OF_FIELD.get((message, name))
