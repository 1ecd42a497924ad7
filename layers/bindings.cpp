// The one file that knows nanobind. caffe/_C.pyi says the same to Python's type checkers; a test compares them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include "cuda_error.h"
#include "detection_output.h"
#include "multibox_loss.h"
#include "normalize.h"
#include "prior_box.h"
#include "winograd.h"

namespace nb = nanobind;
using namespace nb::literals;

// ---- How arguments come: enumerations as their numbers in caffe.proto, pointers as addresses

namespace nanobind::detail {

template <typename Enum>
struct AsNumber {
  NB_TYPE_CASTER(Enum, const_name("int"))

  bool from_python(handle number, uint8_t flags, cleanup_list* cleanup) noexcept {
    make_caster<int> caster;
    if (!caster.from_python(number, flags, cleanup)) return false;
    value = static_cast<Enum>(caster.value);
    return true;
  }
  static handle from_cpp(Enum number, rv_policy policy, cleanup_list* cleanup) noexcept {
    return make_caster<int>::from_cpp(static_cast<int>(number), policy, cleanup);
  }
};

template <>
struct type_caster<caffe::CodeType> : AsNumber<caffe::CodeType> {};
template <>
struct type_caster<caffe::LocLossType> : AsNumber<caffe::LocLossType> {};
template <>
struct type_caster<caffe::ConfLossType> : AsNumber<caffe::ConfLossType> {};
template <>
struct type_caster<caffe::MatchType> : AsNumber<caffe::MatchType> {};
template <>
struct type_caster<caffe::MiningType> : AsNumber<caffe::MiningType> {};
template <>
struct type_caster<caffe::Normalization> : AsNumber<caffe::Normalization> {};
template <>
struct type_caster<caffe::Scalar> : AsNumber<caffe::Scalar> {};

}  // namespace nanobind::detail

namespace {

using namespace caffe;

// What Python passes for a T: itself, or for a pointer (a tensor's data_ptr(), a stream) an address.
template <typename T>
struct Passed {
  using type = T;
  static T taken(T value) { return value; }
};
template <typename T>
struct Passed<T*> {
  using type = uintptr_t;
  static T* taken(uintptr_t address) { return reinterpret_cast<T*>(address); }
};

// Binds a function under its own name; `extra`: the names of its arguments in their order.
template <typename Result, typename... Arguments, typename... Extra>
void def(nb::module_& m, const char* name, Result (*function)(Arguments...), const Extra&... extra) {
  m.def(
      name,
      [function](typename Passed<Arguments>::type... arguments) {
        return function(Passed<Arguments>::taken(arguments)...);
      },
      extra...);
}

// For what computes on the CPU. CUDA functions only queue work, and keep Python's lock while they do.
const nb::call_guard<nb::gil_scoped_release> without_lock;

void bind_detection_output(nb::module_& m) {
  using Options = DetectionOutputOptions;
  nb::class_<Options>(m, "DetectionOutputOptions")
      .def(nb::init<>())
      .def_rw("num", &Options::num)
      .def_rw("num_priors", &Options::num_priors)
      .def_rw("num_classes", &Options::num_classes)
      .def_rw("share_location", &Options::share_location)
      .def_rw("background_label_id", &Options::background_label_id)
      .def_rw("code_type", &Options::code_type)
      .def_rw("variance_encoded_in_target", &Options::variance_encoded_in_target)
      .def_rw("confidence_threshold", &Options::confidence_threshold)
      .def_rw("nms_threshold", &Options::nms_threshold)
      .def_rw("eta", &Options::eta)
      .def_rw("top_k", &Options::top_k)
      .def_rw("keep_top_k", &Options::keep_top_k)
      .def("capacity", &Options::capacity);
  def(m, "detection_output_workspace_bytes_cpu", &detection_output_workspace_bytes_cpu, "options"_a, "threads"_a);
  def(m, "detection_output_cpu", &detection_output_cpu, without_lock, "options"_a, "loc"_a, "conf"_a, "prior"_a,
      "rows"_a, "counts"_a, "workspace"_a, "threads"_a);
#ifdef CAFFE_WITH_CUDA
  def(m, "detection_output_workspace_bytes_cuda", &detection_output_workspace_bytes_cuda, "options"_a);
  def(m, "detection_output_cuda", &detection_output_cuda, "options"_a, "loc"_a, "conf"_a, "prior"_a, "rows"_a,
      "counts"_a, "workspace"_a, "stream"_a);
#endif
}

void bind_multibox_loss(nb::module_& m) {
  using Options = MultiBoxLossOptions;
  nb::class_<MultiBoxLossSizes>(m, "MultiBoxLossSizes")
      .def(nb::init<>())
      .def_rw("images", &MultiBoxLossSizes::images)
      .def_rw("priors", &MultiBoxLossSizes::priors)
      .def_rw("labels", &MultiBoxLossSizes::labels);
  nb::class_<Options>(m, "MultiBoxLossOptions")
      .def(nb::init<>())
      .def_rw("num_classes", &Options::num_classes)
      .def_rw("share_location", &Options::share_location)
      .def_rw("loc_loss_type", &Options::loc_loss_type)
      .def_rw("conf_loss_type", &Options::conf_loss_type)
      .def_rw("loc_weight", &Options::loc_weight)
      .def_rw("with_loc", &Options::with_loc)
      .def_rw("with_conf", &Options::with_conf)
      .def_rw("match_type", &Options::match_type)
      .def_rw("overlap_threshold", &Options::overlap_threshold)
      .def_rw("use_prior_for_matching", &Options::use_prior_for_matching)
      .def_rw("background_label_id", &Options::background_label_id)
      .def_rw("use_difficult_gt", &Options::use_difficult_gt)
      .def_rw("neg_pos_ratio", &Options::neg_pos_ratio)
      .def_rw("neg_overlap", &Options::neg_overlap)
      .def_rw("code_type", &Options::code_type)
      .def_rw("encode_variance_in_target", &Options::encode_variance_in_target)
      .def_rw("map_object_to_agnostic", &Options::map_object_to_agnostic)
      .def_rw("ignore_cross_boundary_bbox", &Options::ignore_cross_boundary_bbox)
      .def_rw("bp_inside", &Options::bp_inside)
      .def_rw("mining_type", &Options::mining_type)
      .def_rw("nms_threshold", &Options::nms_threshold)
      .def_rw("nms_top_k", &Options::nms_top_k)
      .def_rw("use_prior_for_nms", &Options::use_prior_for_nms)
      .def_rw("sample_size", &Options::sample_size)
      .def_rw("normalization", &Options::normalization);
  def(m, "multibox_loss_workspace_bytes_cpu", &multibox_loss_workspace_bytes_cpu, "sizes"_a, "options"_a, "threads"_a);
  def(m, "multibox_loss_forward_cpu", &multibox_loss_forward_cpu, without_lock, "sizes"_a, "options"_a, "loc"_a,
      "conf"_a, "prior"_a, "label"_a, "loss"_a, "match"_a, "counts"_a, "workspace"_a, "threads"_a);
  def(m, "multibox_loss_backward_cpu", &multibox_loss_backward_cpu, without_lock, "sizes"_a, "options"_a, "loc"_a,
      "conf"_a, "prior"_a, "label"_a, "match"_a, "counts"_a, "top_diff"_a, "loc_diff"_a, "conf_diff"_a, "threads"_a);
  def(m, "multibox_loss_on_gpu", &multibox_loss_on_gpu, "options"_a);
#ifdef CAFFE_WITH_CUDA
  def(m, "multibox_loss_workspace_bytes_cuda", &multibox_loss_workspace_bytes_cuda, "sizes"_a, "options"_a);
  def(m, "multibox_loss_forward_cuda", &multibox_loss_forward_cuda, "sizes"_a, "options"_a, "loc"_a, "conf"_a,
      "prior"_a, "label"_a, "loss"_a, "match"_a, "counts"_a, "workspace"_a, "stream"_a);
  def(m, "multibox_loss_backward_cuda", &multibox_loss_backward_cuda, "sizes"_a, "options"_a, "loc"_a, "conf"_a,
      "prior"_a, "label"_a, "match"_a, "counts"_a, "top_diff"_a, "loc_diff"_a, "conf_diff"_a, "stream"_a);
#endif
}

void bind_normalize(nb::module_& m) {
  nb::class_<NormalizeShape>(m, "NormalizeShape")
      .def(nb::init<>())
      .def_rw("items", &NormalizeShape::items)
      .def_rw("channels", &NormalizeShape::channels)
      .def_rw("positions", &NormalizeShape::positions)
      .def_rw("channels_last", &NormalizeShape::channels_last)
      .def_rw("across_spatial", &NormalizeShape::across_spatial)
      .def_rw("channel_shared", &NormalizeShape::channel_shared)
      .def_rw("eps", &NormalizeShape::eps)
      .def("norms", &NormalizeShape::norms);
  def(m, "normalize_backward_workspace_bytes", &normalize_backward_workspace_bytes, "shape"_a);
  def(m, "normalize_forward_cpu", &normalize_forward_cpu, without_lock, "type"_a, "shape"_a, "x"_a, "scale"_a, "y"_a,
      "norm"_a, "threads"_a);
  def(m, "normalize_backward_cpu", &normalize_backward_cpu, without_lock, "type"_a, "shape"_a, "x"_a, "dy"_a, "scale"_a,
      "norm"_a, "dx"_a, "dscale"_a, "workspace"_a, "threads"_a);
#ifdef CAFFE_WITH_CUDA
  def(m, "normalize_forward_cuda", &normalize_forward_cuda, "type"_a, "shape"_a, "x"_a, "scale"_a, "y"_a, "norm"_a,
      "stream"_a);
  def(m, "normalize_backward_cuda", &normalize_backward_cuda, "type"_a, "shape"_a, "x"_a, "dy"_a, "scale"_a, "norm"_a,
      "dx"_a, "dscale"_a, "workspace"_a, "stream"_a);
#endif
}

void bind_prior_box(nb::module_& m) {
  nb::class_<PriorBoxGrid>(m, "PriorBoxGrid")
      .def(nb::init<>())
      .def_rw("layer_height", &PriorBoxGrid::layer_height)
      .def_rw("layer_width", &PriorBoxGrid::layer_width)
      .def_rw("image_height", &PriorBoxGrid::image_height)
      .def_rw("image_width", &PriorBoxGrid::image_width)
      .def_rw("step_h", &PriorBoxGrid::step_h)
      .def_rw("step_w", &PriorBoxGrid::step_w)
      .def_rw("offset", &PriorBoxGrid::offset)
      .def_rw("clip", &PriorBoxGrid::clip)
      .def_rw("variance", &PriorBoxGrid::variance);
  def(m, "prior_box_sizes", &prior_box_sizes, "min_sizes"_a, "max_sizes"_a, "num_sizes"_a, "ratios"_a, "num_ratios"_a,
      "flip"_a, "sizes"_a);
  def(m, "prior_box_cpu", &prior_box_cpu, without_lock, "grid"_a, "sizes"_a, "num_sizes"_a, "priors"_a);
#ifdef CAFFE_WITH_CUDA
  def(m, "prior_box_cuda", &prior_box_cuda, "grid"_a, "sizes"_a, "num_sizes"_a, "priors"_a, "stream"_a);
#endif
}

void bind_winograd(nb::module_& m) {
  nb::class_<WinogradShape>(m, "WinogradShape")
      .def(nb::init<>())
      .def_rw("images", &WinogradShape::images)
      .def_rw("channels", &WinogradShape::channels)
      .def_rw("outputs", &WinogradShape::outputs)
      .def_rw("height", &WinogradShape::height)
      .def_rw("width", &WinogradShape::width)
      .def_rw("pad", &WinogradShape::pad)
      .def_rw("dilation", &WinogradShape::dilation)
      .def_rw("tile", &WinogradShape::tile)
      .def_rw("lanes", &WinogradShape::lanes);
  def(m, "winograd_compiled", &winograd_compiled, "lanes"_a);
  def(m, "winograd_weight_floats", &winograd_weight_floats, "shape"_a);
  def(m, "winograd_workspace_floats", &winograd_workspace_floats, "shape"_a, "threads"_a);
  def(m, "winograd_transform", &winograd_transform, without_lock, "shape"_a, "weight"_a, "transformed"_a, "threads"_a);
  def(m, "winograd_convolution", &winograd_convolution, without_lock, "shape"_a, "x"_a, "transformed"_a, "bias"_a,
      "y"_a, "relu"_a, "workspace"_a, "threads"_a);
}

}  // namespace

NB_MODULE(_C, m) {
  m.doc() = "Native layers of the SSD branch: box matching, losses, detection.";
  m.attr("stub_sha256") = CAFFE_STUB_SHA256;  // of the caffe/_C.pyi that it was built with
#ifdef CAFFE_WITH_CUDA
  m.attr("has_cuda") = true;
  m.def("cuda_error_string", &cuda_error_string, "code"_a);
#else
  m.attr("has_cuda") = false;
#endif
  bind_detection_output(m);
  bind_multibox_loss(m);
  bind_normalize(m);
  bind_prior_box(m);
  bind_winograd(m);
}
