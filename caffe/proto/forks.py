"""Which public fork of Caffe fields and layer types come from that this project does not have: for error messages."""

from __future__ import annotations

_PSPNET = "PSPNet's Caffe (hszhao/PSPNet)"
_YOLO = "MobileNet-YOLO (eric612/MobileNet-YOLO)"
_YOLO_V2 = "the ports of YOLO v2 (gklz1982/caffe-yolov2, BirdeeChen/caffe_yolo_v2)"
_TEXTBOXES = "TextBoxes++ (MhLiao/TextBoxes_plusplus)"
_TSN = "TSN's Caffe (yjxiong/caffe)"
_CAFFE_SSD = "CAFFE_SSD (lzx1413/CAFFE_SSD)"
_CAFFE = "Caffe itself, after the SSD branch left it (BVLC/caffe)"
_CTPN = "CTPN's Caffe (tianzhi0549/CTPN)"
_FLOWNET = "FlowNet2 (lmb-freiburg/flownet2)"
_OPENPOSE_TRAINING = "OpenPose's training (CMU-Perceptual-Computing-Lab/caffe_train, openpose_caffe_train)"
_WINDOWS = "caffe-windows, NormFace and AMSoftmax (happynear/caffe-windows)"
_MASK_YOLO = "MaskYolo (leon-liangwu/MaskYolo_Caffe)"
_CRF = "CRF-RNN (torrvision/crfasrnn)"
_SYNOPSYS = "Synopsys' Caffe (foss-for-synopsys-dwc-arc-processors/synopsys-caffe)"
_NVIDIA = "NVIDIA's Caffe (NVIDIA/caffe)"
_INTEL = "Intel's Caffe (intel/caffe)"
_OPENVINO = "OpenVINO's Caffe (opencv/open_model_zoo)"
_RISTRETTO = "Ristretto (pmgysel/caffe)"

_FIELDS: dict[str, dict[str, str]] = {
    _PSPNET: {
        "LayerParameter": "adaptive_bias_channel_param bias_channel_param dense_crf_param domain_transform_param "
        "mat_read_param mat_write_param unique_label_param",
        "TransformationParameter": "crop_width crop_height",
        "BatchNormParameter": "update_global_stats",
    },
    _YOLO: {
        "LayerParameter": "yolo_seg_param segmentation_evaluate_param",
        "AnnotatedDataParameter": "single_class seg_scales seg_resize_width seg_resize_height difficult_label_warmup",
    },
    _YOLO_V2: {
        "LayerParameter": "region_param eval_detection_param",
        "DataParameter": "side num_label",
        "DetectionOutputParameter": "biases classes coords nms_threshold side",
    },
    _TEXTBOXES: {
        "DetectionOutputParameter": "use_polygon",
        "MultiBoxLossParameter": "use_polygon",
        "LayerParameter": "ctc_decoder_param ctc_loss_param",
    },
    _TSN: {
        "LayerParameter": "seg_data_param batch_reduction_param",
        "NetParameter": "mem_param",
        "ConvolutionParameter": "dilation_h dilation_w",
        "ReductionParameter": "k",
        "TransformationParameter": "fix_crop more_fix_crop multi_scale scale_ratios max_distort is_flow "
        "original_image upper_size upper_height upper_width",
        "VideoDataParameter": "source batch_size rand_skip shuffle new_height new_width new_length num_segments scale "
        "mean_file crop_size mirror modality name_pattern encoded grayscale",
    },
    _CAFFE_SSD: {"FocalLossParameter": "type beta"},
    _CAFFE: {
        "InfogainLossParameter": "axis",
    },
    _CTPN: {"LayerParameter": "lstm_param reverse_param transpose_param", "BNParameter": "moving_average"},
    _OPENPOSE_TRAINING: {"LayerParameter": "cpm_transform_param op_transform_param"},
    _WINDOWS: {
        "LayerParameter": "label_specific_rescale_param noise_param",
    },
    _MASK_YOLO: {
        "LayerParameter": "roi_alignment_param decode_rois_param roi_gen_param resize_param yolo_loss_param",
        "TransformationParameter": "jitter resize_h resize_w",
        "DataParameter": "min_size_and min_size_or",
    },
    _CRF: {"LayerParameter": "multi_stage_meanfield_param"},
    _NVIDIA: {
        "LayerParameter": "forward_type backward_type forward_math backward_math cudnn_math_override debug "
        "detectnet_groundtruth_param detectnet_augmentation_param trt_param",
        "NetParameter": "default_forward_type default_backward_type default_forward_math default_backward_math "
        "global_grad_scale global_grad_scale_adaptive reduce_buckets eltwise_mem_sharing",
        "BatchNormParameter": "scale_bias scale_filler bias_filler engine",
        "ConvolutionParameter": "cudnn_convolution_algo_seeker",
        "DataParameter": "cache shuffle threads parser_threads",
        "ImageDataParameter": "cache precache threads",
        "TransformationParameter": "img_rand_resize_lower img_rand_resize_upper horizontal_stretch_lower "
        "horizontal_stretch_upper vertical_stretch_lower vertical_stretch_upper allow_upscale",
    },
    _INTEL: {
        "LayerParameter": "engine quantization_param multinode",
        "NetParameter": "engine compile_net_state multinode bn_stats_batch_size",
        "TransformationParameter": "random_resize_param random_aspect_ratio_param pad",
        "BatchNormParameter": "filler",
        "ConvolutionParameter": "conv_algorithm",
        "ConcatParameter": "per_fla_fuse",
    },
    _OPENVINO: {
        "DetectionOutputParameter": "input_width input_height normalized",
    },
}

_TYPES: dict[str, str] = {
    _PSPNET: "AdaptiveBiasChannel BiasChannel DenseCRF DomainTransform MatRead MatWrite UniqueLabel",
    _YOLO: "YoloSeg GaussianYolov3 SegmentationEvaluate AssistedExcitation LaneData",
    _YOLO_V2: "BoxData Region EvalDetection",
    _TSN: "SegData BatchReduction Gather",
    _NVIDIA: "DetectNetTransformation TRT",
    _OPENPOSE_TRAINING: "CPMData OPData OPVideo",
    _FLOWNET: "Correlation Correlation1D FlowWarp Resample ChannelNorm CustomData DataAugmentation "
    "GenerateAugmentationParameters LpqLoss Mean FlowAugmentation",
    _WINDOWS: "Noise LabelSpecificRescale GlobalLSEMargin LargeMarginInnerProduct TripletLoss",
    _MASK_YOLO: "ROIAlignment DecodeRois RoiGen MaskBoxData KpsBoxData",
    _CRF: "MultiStageMeanfield",
    _SYNOPSYS: "Mish HardSwish",
    _RISTRETTO: "ConvolutionRistretto FcRistretto LRNRistretto DeconvolutionRistretto",
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
