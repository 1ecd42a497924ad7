"""The layer types of the two older net formats, and their current names (Caffe's upgrade_proto)."""

V1_TYPES: dict[int, str] = {
    0: "",  # NONE
    1: "Accuracy",  # ACCURACY
    2: "BNLL",  # BNLL
    3: "Concat",  # CONCAT
    4: "Convolution",  # CONVOLUTION
    5: "Data",  # DATA
    6: "Dropout",  # DROPOUT
    7: "EuclideanLoss",  # EUCLIDEAN_LOSS
    8: "Flatten",  # FLATTEN
    9: "HDF5Data",  # HDF5_DATA
    10: "HDF5Output",  # HDF5_OUTPUT
    11: "Im2col",  # IM2COL
    12: "ImageData",  # IMAGE_DATA
    13: "InfogainLoss",  # INFOGAIN_LOSS
    14: "InnerProduct",  # INNER_PRODUCT
    15: "LRN",  # LRN
    16: "MultinomialLogisticLoss",  # MULTINOMIAL_LOGISTIC_LOSS
    17: "Pooling",  # POOLING
    18: "ReLU",  # RELU
    19: "Sigmoid",  # SIGMOID
    20: "Softmax",  # SOFTMAX
    21: "SoftmaxWithLoss",  # SOFTMAX_LOSS
    22: "Split",  # SPLIT
    23: "TanH",  # TANH
    24: "WindowData",  # WINDOW_DATA
    25: "Eltwise",  # ELTWISE
    26: "Power",  # POWER
    27: "SigmoidCrossEntropyLoss",  # SIGMOID_CROSS_ENTROPY_LOSS
    28: "HingeLoss",  # HINGE_LOSS
    29: "MemoryData",  # MEMORY_DATA
    30: "ArgMax",  # ARGMAX
    31: "Threshold",  # THRESHOLD
    32: "DummyData",  # DUMMY_DATA
    33: "Slice",  # SLICE
    34: "MVN",  # MVN
    35: "AbsVal",  # ABSVAL
    36: "Silence",  # SILENCE
    37: "ContrastiveLoss",  # CONTRASTIVE_LOSS
    38: "Exp",  # EXP
    39: "Deconvolution",  # DECONVOLUTION
}
"""By V1LayerParameter.LayerType."""

V0_TYPES: dict[str, str] = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}
"""By V0LayerParameter.type."""
