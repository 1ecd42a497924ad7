// A batch of MultiBoxLoss, what one box adds to the loss, and the gradient of it: shared by CPU and GPU.
#pragma once

#include "multibox_loss.h"

namespace caffe {

// The smallest normal number: probabilities are not taken to be less, so that a loss is at most 87.3.
constexpr float kLeastProbability = 1.17549435e-38f;

CAFFE_HOST_DEVICE float normalizer(const MultiBoxLossOptions& o, int64_t images, int64_t priors, int64_t positives) {
  float n = 1.0f;
  if (o.normalization == Normalization::FULL) n = static_cast<float>(images * priors);
  if (o.normalization == Normalization::VALID) n = static_cast<float>(positives);
  if (o.normalization == Normalization::BATCH_SIZE) n = static_cast<float>(images);
  return max_of(1.0f, n);
}

// The class that a box matched to label row `row` (8 numbers) is to be given.
CAFFE_HOST_DEVICE int target_class(const MultiBoxLossOptions& o, const float* row) {
  return o.map_object_to_agnostic ? o.background_label_id + 1 : static_cast<int>(row[1]);
}

// ---- Location

CAFFE_HOST_DEVICE bool outside(float x) { return x < 0.0f || x > 1.0f; }

// Prediction less target, in units of the variances.
CAFFE_HOST_DEVICE Box location_error(const MultiBoxLossOptions& o, const Box& prior, const Box& variance,
                                     const Box& truth, const Box& prediction) {
  Box target = encode(o.code_type, o.variance_in_target, prior, variance, truth);
  Box p = prediction;
  if (o.bp_inside) {  // a coordinate outside the image is not learned from
    const Box place =
        o.use_prior_for_matching ? prior : decode(o.code_type, o.variance_in_target, prior, variance, prediction);
    if (outside(place.xmin)) p.xmin = target.xmin;
    if (outside(place.ymin)) p.ymin = target.ymin;
    if (outside(place.xmax)) p.xmax = target.xmax;
    if (outside(place.ymax)) p.ymax = target.ymax;
  }
  if (o.variance_in_target) {
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

// ---- The batch

// LOGISTIC without mining gives each score of the batch a target of its own.
CAFFE_HOST_DEVICE bool targets_by_score(const MultiBoxLossOptions& o) {
  return o.conf_loss_type == ConfLossType::LOGISTIC && o.mining_type == MiningType::NONE;
}

// Where things are.
struct MultiBoxBatch {
  MultiBoxLossSizes sizes;
  MultiBoxLossOptions options;
  const float *loc, *conf, *prior, *label;

  CAFFE_HOST_DEVICE int64_t loc_classes() const { return options.share_location ? 1 : options.num_classes; }
  CAFFE_HOST_DEVICE const float* scores(int64_t image, int64_t p = 0) const {
    return conf + (image * sizes.priors + p) * options.num_classes;
  }
  CAFFE_HOST_DEVICE const float* variance() const { return prior + 4 * sizes.priors; }
  CAFFE_HOST_DEVICE const float* label_row(int32_t row) const { return label + 8 * static_cast<int64_t>(row); }

  // Where the location of prior `p` for location class `c` is in loc and its gradient.
  CAFFE_HOST_DEVICE int64_t loc_offset(int64_t image, int64_t p, int64_t c) const {
    return ((image * sizes.priors + p) * loc_classes() + c) * 4;
  }
  // The location class that a match is about: of match class k, to label row `row`.
  CAFFE_HOST_DEVICE int64_t loc_class(int k, int32_t row) const {
    if (options.share_location) return 0;
    return options.use_prior_for_matching ? static_cast<int64_t>(label_row(row)[1]) : k;
  }
  // The score whose target a match sets to 1, where targets go by score.
  CAFFE_HOST_DEVICE int64_t target_offset(int64_t image, int64_t p, int32_t row) const {
    return image * sizes.priors + p * options.num_classes + target_class(options, label_row(row));
  }
  // The prediction of location class `c` as a box.
  CAFFE_HOST_DEVICE Box predicted_box(int64_t image, int64_t p, int64_t c) const {
    return decode(options.code_type, options.variance_in_target, load_box(prior + 4 * p), load_box(variance() + 4 * p),
                  load_box(loc + loc_offset(image, p, c)));
  }
  // location_error of prior `p`'s prediction of location class `c`, matched to label row `row`.
  CAFFE_HOST_DEVICE Box error(int64_t image, int64_t p, int64_t c, int32_t row) const {
    return location_error(options, load_box(prior + 4 * p), load_box(variance() + 4 * p), load_box(label_row(row) + 3),
                          load_box(loc + loc_offset(image, p, c)));
  }
};

// ---- Mining

// A loss as an integer that orders as losses do, NaN above all others.
CAFFE_HOST_DEVICE uint32_t rank_of(float loss) {
  if (!(loss == loss)) return 0xffffffffu;
  const uint32_t bits = static_cast<uint32_t>(float_bits(loss + 0.0f));  // one zero, not two
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace caffe
