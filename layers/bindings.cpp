// The one file that knows nanobind: each native function by name, pointers as integers.
#include <nanobind/nanobind.h>

#include "cuda_error.h"
#include "multibox_loss.h"

namespace nb = nanobind;

namespace {

template <typename T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void bind_multibox_loss(nb::module_& m) {
  using namespace caffe;
  nb::class_<MultiBoxLossSizes>(m, "MultiBoxLossSizes")
      .def("__init__", [](MultiBoxLossSizes* self, int64_t images, int64_t priors, int64_t labels) {
        new (self) MultiBoxLossSizes{images, priors, labels};
      });
  // In the order of the struct; enumerations as the numbers of caffe.proto.
  nb::class_<MultiBoxLossOptions>(m, "MultiBoxLossOptions")
      .def("__init__",
           [](MultiBoxLossOptions* self, int num_classes, bool share_location, int loc_loss_type, int conf_loss_type,
              float loc_weight, bool with_loc, bool with_conf, int match_type, float overlap_threshold,
              bool use_prior_for_matching, int background_label_id, bool use_difficult_gt, float neg_pos_ratio,
              float neg_overlap, int code_type, bool variance_in_target, bool map_object_to_agnostic,
              bool ignore_cross_boundary_bbox, bool bp_inside, int mining_type, float nms_threshold, int nms_top_k,
              bool use_prior_for_nms, int sample_size, int normalization) {
             new (self) MultiBoxLossOptions{num_classes,
                                            share_location,
                                            LocLossType(loc_loss_type),
                                            ConfLossType(conf_loss_type),
                                            loc_weight,
                                            with_loc,
                                            with_conf,
                                            MatchType(match_type),
                                            overlap_threshold,
                                            use_prior_for_matching,
                                            background_label_id,
                                            use_difficult_gt,
                                            neg_pos_ratio,
                                            neg_overlap,
                                            CodeType(code_type),
                                            variance_in_target,
                                            map_object_to_agnostic,
                                            ignore_cross_boundary_bbox,
                                            bp_inside,
                                            MiningType(mining_type),
                                            nms_threshold,
                                            nms_top_k,
                                            use_prior_for_nms,
                                            sample_size,
                                            Normalization(normalization)};
           });
  m.def("multibox_loss_workspace_bytes", &multibox_loss_workspace_bytes);
  m.def("multibox_loss_forward", [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, uintptr_t loc,
                                    uintptr_t conf, uintptr_t prior, uintptr_t label, uintptr_t workspace, int threads,
                                    uintptr_t loss, uintptr_t match, uintptr_t counts) {
    nb::gil_scoped_release release;
    multibox_loss_forward(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior), at<float>(label),
                          at<void>(workspace), threads, at<float>(loss), at<int32_t>(match), at<int32_t>(counts));
  });
  m.def("multibox_loss_backward",
        [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, uintptr_t loc, uintptr_t conf,
           uintptr_t prior, uintptr_t label, uintptr_t match, uintptr_t counts, uintptr_t top_diff, int threads,
           uintptr_t loc_diff, uintptr_t conf_diff) {
          nb::gil_scoped_release release;
          multibox_loss_backward(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior), at<float>(label),
                                 at<int32_t>(match), at<int32_t>(counts), at<float>(top_diff), threads,
                                 at<float>(loc_diff), at<float>(conf_diff));
        });
}

}  // namespace

NB_MODULE(_C, m) {
  m.doc() = "Native layers of the SSD branch: box matching, losses, detection.";
#ifdef CAFFE_WITH_CUDA
  m.attr("has_cuda") = true;
  m.def("cuda_error_string", &caffe::cuda_error_string);
#else
  m.attr("has_cuda") = false;
#endif
  bind_multibox_loss(m);
}
