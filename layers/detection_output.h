// DetectionOutput: location and confidence predictions to the list of detections.
//
// In an image, for each class except the background: the scores over the confidence threshold, the top_k of them by
// score, greedy non-maximum suppression among their boxes; then the keep_top_k best over all classes. Equal scores rank
// by the lower class, then the lower prior. A score that is NaN is over no threshold.
//
//   loc    num × num_priors × (share_location ? 1 : num_classes) × 4    coded boxes
//   conf   num × num_priors × num_classes                               scores
//   prior  2 × num_priors × 4                                           boxes, then variances
//   rows   num × capacity × 7     image, label, score, xmin, ymin, xmax, ymax; by label, then by falling score. Image i
//                                 owns rows i·capacity and on; those past its count are its id and six -1.
//   counts num                    detections in each image, at most capacity
//
// All pointers are to distinct, contiguous memory; boxes are corners in units of the image. Nothing is allocated.
#pragma once

#include <cstdint>

#include "box.h"

namespace caffe {

struct DetectionOutputOptions {
  int num;
  int num_priors;
  int num_classes;
  bool share_location;
  int background_label_id;  // -1, or any label outside the classes: no background
  CodeType code_type;
  bool variance_encoded_in_target;
  float confidence_threshold;
  float nms_threshold;  // a box is kept if it overlaps no kept one of its class by more than this
  float eta;            // below 1: factor on nms_threshold after each kept box, while that is over 0.5
  int top_k;            // negative: no limit
  int keep_top_k;       // negative: no limit

  // Classes that can be detected.
  CAFFE_HOST_DEVICE int foreground_classes() const {
    return num_classes - (0 <= background_label_id && background_label_id < num_classes ? 1 : 0);
  }
  // The maximum number of boxes of one class that reach suppression.
  CAFFE_HOST_DEVICE int candidates() const { return top_k < 0 || top_k > num_priors ? num_priors : top_k; }
  // The maximum number of rows per image.
  CAFFE_HOST_DEVICE int64_t capacity() const {
    const int64_t most = static_cast<int64_t>(foreground_classes()) * candidates();
    return keep_top_k < 0 || keep_top_k > most ? most : keep_top_k;
  }
};

// Scores of up to this many boxes and classes together rank as 64-bit keys: num_priors · num_classes has to be less.
constexpr int64_t kDetectionOutputMaxScores = INT64_C(1) << 32;

int64_t detection_output_workspace_bytes_cpu(const DetectionOutputOptions& options, int threads);

void detection_output_cpu(const DetectionOutputOptions& options, const float* loc, const float* conf,
                          const float* prior, float* rows, int32_t* counts, void* workspace, int threads);

int64_t detection_output_workspace_bytes_cuda(const DetectionOutputOptions& options);

// The same decisions on the GPU, queued on `stream` (a cudaStream_t); the memory is the device's. Returns a
// cudaError_t. The workspace may be reused by work that is queued on the stream afterwards.
int detection_output_cuda(const DetectionOutputOptions& options, const float* loc, const float* conf,
                          const float* prior, float* rows, int32_t* counts, void* workspace, void* stream);

}  // namespace caffe
