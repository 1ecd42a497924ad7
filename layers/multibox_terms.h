// What one box adds to MultiBoxLoss, the gradient of it, and how terms make a loss: shared by CPU and GPU.
#pragma once

#include "multibox_loss.h"

namespace caffe {

// The smallest normal number: the lower bound of probabilities, so that a loss is at most 87.3.
constexpr float kLeastProbability = 1.17549435e-38f;

CAFFE_HOST_DEVICE float normalizer(const MultiBoxLossOptions& o, int64_t images, int64_t priors, int64_t positives) {
  float n = 1.0f;
  if (o.normalization == Normalization::FULL) n = static_cast<float>(images * priors);
  if (o.normalization == Normalization::VALID) n = static_cast<float>(positives);
  if (o.normalization == Normalization::BATCH_SIZE) n = static_cast<float>(images);
  return max_of(1.0f, n);
}

// The loss of a batch from the sums of its terms; `by` is the normalizer.
CAFFE_HOST_DEVICE float total_loss(const MultiBoxLossOptions& o, double loc_loss, double conf_loss, double by) {
  return static_cast<float>((o.with_loc ? o.loc_weight * loc_loss / by : 0.0) + (o.with_conf ? conf_loss / by : 0.0));
}

// How many negatives MAX_NEGATIVE wants of an image with so many positives.
CAFFE_HOST_DEVICE int64_t negatives_wanted(const MultiBoxLossOptions& o, int64_t positives, int64_t priors) {
  const float ratio = static_cast<float>(positives) * o.neg_pos_ratio;
  return ratio < 1.0f ? 0 : (ratio < static_cast<float>(priors) ? static_cast<int64_t>(ratio) : priors);
}

// The target class of a box that is matched to label row `row` (8 numbers).
CAFFE_HOST_DEVICE int target_class(const MultiBoxLossOptions& o, const float* row) {
  return o.map_object_to_agnostic ? o.background_label_id + 1 : static_cast<int>(row[1]);
}

// ---- Location

CAFFE_HOST_DEVICE bool outside(float x) { return x < 0.0f || x > 1.0f; }

// Prediction minus target, in units of the variances.
CAFFE_HOST_DEVICE Box location_error(const MultiBoxLossOptions& o, const Box& prior, const Box& variance,
                                     const Box& truth, const Box& prediction) {
  Box target = encode(o.code_type, o.encode_variance_in_target, prior, variance, truth);
  Box p = prediction;
  if (o.bp_inside) {  // coordinates outside the image are not trained
    const Box place = o.use_prior_for_matching
                          ? prior
                          : decode(o.code_type, o.encode_variance_in_target, prior, variance, prediction);
    if (outside(place.xmin)) p.xmin = target.xmin;
    if (outside(place.ymin)) p.ymin = target.ymin;
    if (outside(place.xmax)) p.xmax = target.xmax;
    if (outside(place.ymax)) p.ymax = target.ymax;
  }
  if (o.encode_variance_in_target) {
    p = {p.xmin / variance.xmin, p.ymin / variance.ymin, p.xmax / variance.xmax, p.ymax / variance.ymax};
    target = {target.xmin / variance.xmin, target.ymin / variance.ymin, target.xmax / variance.xmax,
              target.ymax / variance.ymax};
  }
  return {p.xmin - target.xmin, p.ymin - target.ymin, p.xmax - target.xmax, p.ymax - target.ymax};
}

CAFFE_HOST_DEVICE float location_loss(LocLossType type, float error) {
  const float size = error < 0.0f ? -error : error;
  return type == LocLossType::L2 || size < 1.0f ? 0.5f * error * error : size - 0.5f;
}

CAFFE_HOST_DEVICE float location_loss(LocLossType type, const Box& error) {
  return location_loss(type, error.xmin) + location_loss(type, error.ymin) + location_loss(type, error.xmax) +
         location_loss(type, error.ymax);
}

CAFFE_HOST_DEVICE float location_gradient(LocLossType type, float error) {
  if (type == LocLossType::SMOOTH_L1 && error >= 1.0f) return 1.0f;
  if (type == LocLossType::SMOOTH_L1 && error <= -1.0f) return -1.0f;
  return error;
}

CAFFE_HOST_DEVICE Box location_gradient(LocLossType type, const Box& error, float scale) {
  return {location_gradient(type, error.xmin) * scale, location_gradient(type, error.ymin) * scale,
          location_gradient(type, error.xmax) * scale, location_gradient(type, error.ymax) * scale};
}

// ---- Confidence. `x`: the scores of one box.

CAFFE_HOST_DEVICE float largest_score(const float* x, int num_classes) {
  float largest = x[0];
  for (int c = 1; c < num_classes; ++c) largest = max_of(largest, x[c]);
  return largest;
}

// -log of the probability that softmax gives class `target`.
CAFFE_HOST_DEVICE float softmax_loss(const float* x, int num_classes, int target) {
  const float largest = largest_score(x, num_classes);
  float sum = 0.0f;
  for (int c = 0; c < num_classes; ++c) sum += exp_not_positive(x[c] - largest);
  return -log_float(max_of(exp_not_positive(x[target] - largest) / sum, kLeastProbability));
}

CAFFE_HOST_DEVICE void softmax_gradient(const float* x, int num_classes, int target, float scale, float* gradient) {
  const float largest = largest_score(x, num_classes);
  float sum = 0.0f;
  for (int c = 0; c < num_classes; ++c) gradient[c] = exp_not_positive(x[c] - largest);
  for (int c = 0; c < num_classes; ++c) sum += gradient[c];
  for (int c = 0; c < num_classes; ++c) gradient[c] = (gradient[c] / sum - (c == target ? 1.0f : 0.0f)) * scale;
}

// Cross entropy of a sigmoid with a target of 1 or 0.
CAFFE_HOST_DEVICE float logistic_loss(float x, bool target) {
  const float positive = x >= 0.0f ? 1.0f : 0.0f;
  return log_float(1.0f + exp_not_positive(x - 2.0f * x * positive)) - x * ((target ? 1.0f : 0.0f) - positive);
}

// Summed over the classes; a target outside them means that every class's target is 0.
CAFFE_HOST_DEVICE float logistic_loss(const float* x, int num_classes, int target) {
  float sum = 0.0f;
  for (int c = 0; c < num_classes; ++c) sum += logistic_loss(x[c], c == target);
  return sum;
}

CAFFE_HOST_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp_float(-x)); }

CAFFE_HOST_DEVICE void logistic_gradient(const float* x, int num_classes, int target, float scale, float* gradient) {
  for (int c = 0; c < num_classes; ++c) gradient[c] = (sigmoid(x[c]) - (c == target ? 1.0f : 0.0f)) * scale;
}

CAFFE_HOST_DEVICE float confidence_loss(ConfLossType type, const float* x, int num_classes, int target) {
  return type == ConfLossType::SOFTMAX ? softmax_loss(x, num_classes, target) : logistic_loss(x, num_classes, target);
}

CAFFE_HOST_DEVICE void confidence_gradient(ConfLossType type, const float* x, int num_classes, int target, float scale,
                                           float* gradient) {
  if (type == ConfLossType::SOFTMAX) {
    softmax_gradient(x, num_classes, target, scale, gradient);
  } else {
    logistic_gradient(x, num_classes, target, scale, gradient);
  }
}

}  // namespace caffe
