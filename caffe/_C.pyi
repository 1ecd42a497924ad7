# The native module (layers/bindings.cpp). Pointers are passed as addresses, enumerations as their numbers in caffe.proto;
# layers/*.h say what each function takes. caffe/ops alone calls them, after it has checked everything.
# A build keeps this file's hash, so that one made for another interface is recognised (caffe/ops/__init__.py).
from collections.abc import Sequence

stub_sha256: str

# ---- CUDA: whether this build has the functions that end in _cuda, and what their error codes mean

has_cuda: bool

def cuda_error_string(code: int) -> str: ...

# ---- DetectionOutput

class DetectionOutputOptions:
    num: int
    num_priors: int
    num_classes: int
    share_location: bool
    background_label_id: int
    code_type: int
    variance_encoded_in_target: bool
    confidence_threshold: float
    nms_threshold: float
    eta: float
    top_k: int
    keep_top_k: int
    def __init__(self) -> None: ...
    def capacity(self) -> int: ...

def detection_output_workspace_bytes_cpu(options: DetectionOutputOptions, threads: int) -> int: ...
def detection_output_cpu(
    options: DetectionOutputOptions,
    loc: int,
    conf: int,
    prior: int,
    rows: int,
    counts: int,
    workspace: int,
    threads: int,
) -> None: ...
def detection_output_workspace_bytes_cuda(options: DetectionOutputOptions) -> int: ...
def detection_output_cuda(
    options: DetectionOutputOptions,
    loc: int,
    conf: int,
    prior: int,
    rows: int,
    counts: int,
    workspace: int,
    stream: int,
) -> int: ...

# ---- MultiBoxLoss

class MultiBoxLossSizes:
    images: int
    priors: int
    labels: int
    def __init__(self) -> None: ...

class MultiBoxLossOptions:
    num_classes: int
    share_location: bool
    loc_loss_type: int
    conf_loss_type: int
    loc_weight: float
    with_loc: bool
    with_conf: bool
    match_type: int
    overlap_threshold: float
    use_prior_for_matching: bool
    background_label_id: int
    use_difficult_gt: bool
    neg_pos_ratio: float
    neg_overlap: float
    code_type: int
    encode_variance_in_target: bool
    map_object_to_agnostic: bool
    ignore_cross_boundary_bbox: bool
    bp_inside: bool
    mining_type: int
    nms_threshold: float
    nms_top_k: int
    use_prior_for_nms: bool
    sample_size: int
    normalization: int
    def __init__(self) -> None: ...

def multibox_loss_on_gpu(options: MultiBoxLossOptions) -> bool: ...
def multibox_loss_workspace_bytes_cpu(sizes: MultiBoxLossSizes, options: MultiBoxLossOptions, threads: int) -> int: ...
def multibox_loss_forward_cpu(
    sizes: MultiBoxLossSizes,
    options: MultiBoxLossOptions,
    loc: int,
    conf: int,
    prior: int,
    label: int,
    loss: int,
    match: int,
    counts: int,
    workspace: int,
    threads: int,
) -> None: ...
def multibox_loss_backward_cpu(
    sizes: MultiBoxLossSizes,
    options: MultiBoxLossOptions,
    loc: int,
    conf: int,
    prior: int,
    label: int,
    match: int,
    counts: int,
    top_diff: int,
    loc_diff: int,
    conf_diff: int,
    threads: int,
) -> None: ...
def multibox_loss_workspace_bytes_cuda(sizes: MultiBoxLossSizes, options: MultiBoxLossOptions) -> int: ...
def multibox_loss_forward_cuda(
    sizes: MultiBoxLossSizes,
    options: MultiBoxLossOptions,
    loc: int,
    conf: int,
    prior: int,
    label: int,
    loss: int,
    match: int,
    counts: int,
    workspace: int,
    stream: int,
) -> int: ...
def multibox_loss_backward_cuda(
    sizes: MultiBoxLossSizes,
    options: MultiBoxLossOptions,
    loc: int,
    conf: int,
    prior: int,
    label: int,
    match: int,
    counts: int,
    top_diff: int,
    loc_diff: int,
    conf_diff: int,
    stream: int,
) -> int: ...

# ---- Normalize

class NormalizeShape:
    items: int
    channels: int
    positions: int
    channels_last: bool
    across_spatial: bool
    channel_shared: bool
    eps: float
    def __init__(self) -> None: ...
    def norms(self) -> int: ...

def normalize_backward_workspace_bytes(shape: NormalizeShape) -> int: ...
def normalize_forward_cpu(
    type: int, shape: NormalizeShape, x: int, scale: int, y: int, norm: int, threads: int
) -> None: ...
def normalize_backward_cpu(
    type: int,
    shape: NormalizeShape,
    x: int,
    dy: int,
    scale: int,
    norm: int,
    dx: int,
    dscale: int,
    workspace: int,
    threads: int,
) -> None: ...
def normalize_forward_cuda(
    type: int, shape: NormalizeShape, x: int, scale: int, y: int, norm: int, stream: int
) -> int: ...
def normalize_backward_cuda(
    type: int,
    shape: NormalizeShape,
    x: int,
    dy: int,
    scale: int,
    norm: int,
    dx: int,
    dscale: int,
    workspace: int,
    stream: int,
) -> int: ...

# ---- PriorBox

class PriorBoxGrid:
    layer_height: int
    layer_width: int
    image_height: int
    image_width: int
    step_h: float
    step_w: float
    offset: float
    clip: bool
    variance: Sequence[float]
    def __init__(self) -> None: ...

def prior_box_sizes(
    min_sizes: int, max_sizes: int, num_sizes: int, ratios: int, num_ratios: int, flip: bool, sizes: int
) -> int: ...
def prior_box_cpu(grid: PriorBoxGrid, sizes: int, num_sizes: int, priors: int) -> None: ...
def prior_box_cuda(grid: PriorBoxGrid, sizes: int, num_sizes: int, priors: int, stream: int) -> int: ...

# ---- Winograd's convolutions

class WinogradShape:
    images: int
    channels: int
    outputs: int
    height: int
    width: int
    pad: int
    dilation: int
    tile: int
    lanes: int
    def __init__(self) -> None: ...

def winograd_compiled(lanes: int) -> bool: ...
def winograd_weight_floats(shape: WinogradShape) -> int: ...
def winograd_workspace_floats(shape: WinogradShape, threads: int) -> int: ...
def winograd_transform(shape: WinogradShape, weight: int, transformed: int, threads: int) -> None: ...
def winograd_convolution(
    shape: WinogradShape,
    x: int,
    transformed: int,
    bias: int,
    y: int,
    relu: bool,
    workspace: int,
    threads: int,
) -> None: ...
