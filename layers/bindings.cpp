// The one file that knows nanobind: each native function by name, pointers as integers.
#include <nanobind/nanobind.h>

#include "cuda_error.h"
#include "detection_output.h"
#include "multibox_loss.h"
#include "normalize.h"
#include "prior_box.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// A tensor's data_ptr(), a stream: an address as an integer.
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
  m.def("multibox_loss_workspace_bytes_cpu", &multibox_loss_workspace_bytes_cpu);
  m.def("multibox_loss_forward_cpu", [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options,
                                        uintptr_t loc, uintptr_t conf, uintptr_t prior, uintptr_t label,
                                        uintptr_t workspace, int threads, uintptr_t loss, uintptr_t match,
                                        uintptr_t counts) {
    nb::gil_scoped_release release;
    multibox_loss_forward_cpu(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior), at<float>(label),
                              at<void>(workspace), threads, at<float>(loss), at<int32_t>(match), at<int32_t>(counts));
  });
  m.def("multibox_loss_backward_cpu",
        [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, uintptr_t loc, uintptr_t conf,
           uintptr_t prior, uintptr_t label, uintptr_t match, uintptr_t counts, uintptr_t top_diff, int threads,
           uintptr_t loc_diff, uintptr_t conf_diff) {
          nb::gil_scoped_release release;
          multibox_loss_backward_cpu(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior),
                                     at<float>(label), at<int32_t>(match), at<int32_t>(counts), at<float>(top_diff),
                                     threads, at<float>(loc_diff), at<float>(conf_diff));
        });
  m.def("multibox_loss_on_gpu", &multibox_loss_on_gpu);
#ifdef CAFFE_WITH_CUDA
  m.def("multibox_loss_workspace_bytes_cuda", &multibox_loss_workspace_bytes_cuda);
  m.def("multibox_loss_forward_cuda",
        [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, uintptr_t loc, uintptr_t conf,
           uintptr_t prior, uintptr_t label, uintptr_t workspace, uintptr_t loss, uintptr_t match, uintptr_t counts,
           uintptr_t stream) {
          return multibox_loss_forward_cuda(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior),
                                            at<float>(label), at<void>(workspace), at<float>(loss), at<int32_t>(match),
                                            at<int32_t>(counts), at<void>(stream));
        });
  m.def("multibox_loss_backward_cuda", [](const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options,
                                          uintptr_t loc, uintptr_t conf, uintptr_t prior, uintptr_t label,
                                          uintptr_t match, uintptr_t counts, uintptr_t top_diff, uintptr_t loc_diff,
                                          uintptr_t conf_diff, uintptr_t stream) {
    return multibox_loss_backward_cuda(sizes, options, at<float>(loc), at<float>(conf), at<float>(prior),
                                       at<float>(label), at<int32_t>(match), at<int32_t>(counts), at<float>(top_diff),
                                       at<float>(loc_diff), at<float>(conf_diff), at<void>(stream));
  });
#endif
}

void bind_normalize(nb::module_& m) {
  using namespace caffe;
  nb::class_<NormalizeShape>(m, "NormalizeShape")
      .def(
          "__init__",
          [](NormalizeShape* self, int64_t items, int64_t channels, int64_t positions, bool channels_last,
             bool across_spatial, bool channel_shared, double eps) {
            new (self) NormalizeShape{items, channels, positions, channels_last, across_spatial, channel_shared, eps};
          },
          "items"_a, "channels"_a, "positions"_a, "channels_last"_a, "across_spatial"_a, "channel_shared"_a, "eps"_a)
      .def("norms", &NormalizeShape::norms);
  m.def("normalize_backward_workspace_bytes", &normalize_backward_workspace_bytes);
  m.def(
      "normalize_forward_cpu",
      [](int type, const NormalizeShape& shape, uintptr_t x, uintptr_t scale, uintptr_t y, uintptr_t norm,
         int threads) {
        normalize_forward_cpu(Scalar(type), shape, at<void>(x), at<void>(scale), at<void>(y), at<void>(norm), threads);
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "normalize_backward_cpu",
      [](int type, const NormalizeShape& shape, uintptr_t x, uintptr_t dy, uintptr_t scale, uintptr_t norm,
         uintptr_t dx, uintptr_t dscale, uintptr_t workspace, int threads) {
        normalize_backward_cpu(Scalar(type), shape, at<void>(x), at<void>(dy), at<void>(scale), at<void>(norm),
                               at<void>(dx), at<void>(dscale), at<void>(workspace), threads);
      },
      nb::call_guard<nb::gil_scoped_release>());
#ifdef CAFFE_WITH_CUDA
  m.def("normalize_forward_cuda", [](int type, const NormalizeShape& shape, uintptr_t x, uintptr_t scale, uintptr_t y,
                                     uintptr_t norm, uintptr_t stream) {
    return normalize_forward_cuda(Scalar(type), shape, at<void>(x), at<void>(scale), at<void>(y), at<void>(norm),
                                  at<void>(stream));
  });
  m.def("normalize_backward_cuda", [](int type, const NormalizeShape& shape, uintptr_t x, uintptr_t dy, uintptr_t scale,
                                      uintptr_t norm, uintptr_t dx, uintptr_t dscale, uintptr_t workspace,
                                      uintptr_t stream) {
    return normalize_backward_cuda(Scalar(type), shape, at<void>(x), at<void>(dy), at<void>(scale), at<void>(norm),
                                   at<void>(dx), at<void>(dscale), at<void>(workspace), at<void>(stream));
  });
#endif
}

void bind_prior_box(nb::module_& m) {
  using namespace caffe;
  nb::class_<PriorBoxGrid>(m, "PriorBoxGrid")
      .def(
          "__init__",
          [](PriorBoxGrid* self, int layer_height, int layer_width, int image_height, int image_width, float step_h,
             float step_w, float offset, bool clip, float v0, float v1, float v2, float v3) {
            new (self) PriorBoxGrid{layer_height, layer_width, image_height, image_width,     step_h,
                                    step_w,       offset,      clip,         {v0, v1, v2, v3}};
          },
          "layer_height"_a, "layer_width"_a, "image_height"_a, "image_width"_a, "step_h"_a, "step_w"_a, "offset"_a,
          "clip"_a, "v0"_a, "v1"_a, "v2"_a, "v3"_a);
  m.def("prior_box_sizes", [](uintptr_t min_sizes, uintptr_t max_sizes, int num_sizes, uintptr_t ratios, int num_ratios,
                              bool flip, uintptr_t sizes) {
    return prior_box_sizes(at<float>(min_sizes), at<float>(max_sizes), num_sizes, at<float>(ratios), num_ratios, flip,
                           at<float>(sizes));
  });
  m.def(
      "prior_box_cpu",
      [](const PriorBoxGrid& grid, uintptr_t sizes, int num_sizes, uintptr_t priors) {
        prior_box_cpu(grid, at<float>(sizes), num_sizes, at<float>(priors));
      },
      nb::call_guard<nb::gil_scoped_release>());
#ifdef CAFFE_WITH_CUDA
  m.def("prior_box_cuda",
        [](const PriorBoxGrid& grid, uintptr_t sizes, int num_sizes, uintptr_t priors, uintptr_t stream) {
          return prior_box_cuda(grid, at<float>(sizes), num_sizes, at<float>(priors), at<void>(stream));
        });
#endif
}

void bind_detection_output(nb::module_& m) {
  using Options = caffe::DetectionOutputOptions;
  nb::class_<Options>(m, "DetectionOutputOptions")
      .def("__init__",
           [](Options* self, int num, int num_priors, int num_classes, bool share_location, int background_label_id,
              int code_type, bool variance_encoded_in_target, float confidence_threshold, float nms_threshold,
              float eta, int top_k, int keep_top_k) {
             new (self) Options{num,
                                num_priors,
                                num_classes,
                                share_location,
                                background_label_id,
                                static_cast<caffe::CodeType>(code_type),
                                variance_encoded_in_target,
                                confidence_threshold,
                                nms_threshold,
                                eta,
                                top_k,
                                keep_top_k};
           })
      .def_prop_ro("capacity", &Options::capacity);
  m.def("detection_output_workspace_bytes", &caffe::detection_output_workspace_bytes);
  m.def(
      "detection_output",
      [](const Options& options, uintptr_t loc, uintptr_t conf, uintptr_t prior, uintptr_t workspace, int threads,
         uintptr_t rows, uintptr_t counts) {
        caffe::detection_output(options, at<float>(loc), at<float>(conf), at<float>(prior), at<void>(workspace),
                                threads, at<float>(rows), at<int32_t>(counts));
      },
      nb::call_guard<nb::gil_scoped_release>());
#ifdef CAFFE_WITH_CUDA
  m.def("detection_output_cuda_workspace_bytes", &caffe::detection_output_cuda_workspace_bytes);
  m.def("detection_output_cuda", [](const Options& options, uintptr_t loc, uintptr_t conf, uintptr_t prior,
                                    uintptr_t workspace, uintptr_t stream, uintptr_t rows, uintptr_t counts) {
    return caffe::detection_output_cuda(options, at<float>(loc), at<float>(conf), at<float>(prior), at<void>(workspace),
                                        at<void>(stream), at<float>(rows), at<int32_t>(counts));
  });
#endif
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
  bind_detection_output(m);
  bind_multibox_loss(m);
  bind_normalize(m);
  bind_prior_box(m);
}
