// The gradients of MultiBoxLoss: zero except for the chosen boxes.
#include "multibox_batch.h"
#include "parallel.h"
#include "vectorize.h"

namespace caffe {
namespace {

CAFFE_VECTORIZE void scaled_sigmoids(const float* scores, int64_t count, float scale, float* gradient) {
  for (int64_t i = 0; i < count; ++i) gradient[i] = sigmoid(scores[i]) * scale;
}

// softmax_gradient, to the bit. Rows are short: exp over a padded copy leaves no remainder that is not vectorized.
constexpr int kPadding = 8, kLongestRow = 128;
CAFFE_VECTORIZE void softmax_gradient_row(const float* scores, int num_classes, int target, float scale,
                                          float* gradient) {
  if (num_classes > kLongestRow) return softmax_gradient(scores, num_classes, target, scale, gradient);
  float x[kLongestRow];
  const float largest = largest_score(scores, num_classes);
  const int padded = (num_classes + kPadding - 1) / kPadding * kPadding;
  std::copy(scores, scores + num_classes, x);
  std::fill(x + num_classes, x + padded, largest);
  for (int c = 0; c < padded; ++c) x[c] = exp_not_positive(x[c] - largest);
  float sum = 0.0f;
  for (int c = 0; c < num_classes; ++c) sum += x[c];
  for (int c = 0; c < padded; ++c) x[c] = x[c] / sum;
  x[target] -= 1.0f;
  for (int c = 0; c < num_classes; ++c) gradient[c] = x[c] * scale;
}

CAFFE_VECTORIZE void logistic_gradient_row(const float* scores, int num_classes, int target, float scale,
                                           float* gradient) {
  logistic_gradient(scores, num_classes, target, scale, gradient);
}

void location_gradients(const MultiBoxBatch& in, int64_t image, const int32_t* match, float scale, float* loc_diff) {
  const MultiBoxLossOptions& o = in.options;
  float* begin = loc_diff + in.loc_offset(image, 0, 0);
  std::fill(begin, begin + in.sizes.priors * in.loc_classes() * 4, 0.0f);
  if (!o.with_loc) return;
  for (int k = 0; k < match_classes(o); ++k) {
    for (int64_t p = 0; p < in.sizes.priors; ++p) {
      const int32_t row = match[k * in.sizes.priors + p];
      if (row < 0) continue;
      const int64_t c = in.loc_class(k, row);
      store_box(location_gradient(o.loc_loss_type, in.error(image, p, c, row), scale),
                loc_diff + in.loc_offset(image, p, c));
    }
  }
}

// `diff`: the image's [P, C]. Written from front to back, zeros too, because most of it is not in the processor's
// cache.
void confidence_gradients(const MultiBoxBatch& in, int64_t image, const int32_t* match, float scale, float* diff) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors, classes = o.num_classes;
  const bool mined = o.mining_type != MiningType::NONE;
  int64_t written = 0;  // priors
  if (targets_by_score(o) && o.with_conf) {
    scaled_sigmoids(in.scores(image), priors * classes, scale, diff);  // as for targets of 0
    return;
  }
  for (int64_t p = 0; p < priors && o.with_conf; ++p) {
    if (mined && match[p] == kNotChosen) continue;
    const int target = in.target(match, p);
    std::fill(diff + written * classes, diff + p * classes, 0.0f);
    if (o.conf_loss_type == ConfLossType::SOFTMAX) {
      softmax_gradient_row(in.scores(image, p), o.num_classes, target, scale, diff + p * classes);
    } else {
      logistic_gradient_row(in.scores(image, p), o.num_classes, target, scale, diff + p * classes);
    }
    written = p + 1;
  }
  std::fill(diff + written * classes, diff + priors * classes, 0.0f);
}

}  // namespace

void multibox_loss_backward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, float* loc_diff, float* conf_diff,
                                int threads) {
  const MultiBoxBatch in = {sizes, options, loc, conf, prior, label};
  const int64_t matches = match_classes(options) * sizes.priors;
  const float conf_scale = *top_diff / normalizer(options, sizes.images, sizes.priors, counts[0]);
  const float loc_scale = options.loc_weight * conf_scale;
  for_each_in_turn(sizes.images, useful_threads(sizes, options, threads), [&](int64_t image, int) {
    location_gradients(in, image, match + image * matches, loc_scale, loc_diff);
    confidence_gradients(in, image, match + image * matches, conf_scale,
                         conf_diff + image * sizes.priors * options.num_classes);
  });
  if (targets_by_score(options) && options.with_conf) {
    for (int64_t n = 0; n < sizes.images; ++n) {
      // Several matches may set one target, so the gradient is written, not added to.
      for_each_target(in, n, match + n * matches,
                      [&](int64_t index) { conf_diff[index] = (sigmoid(conf[index]) - 1.0f) * conf_scale; });
    }
  }
}

}  // namespace caffe
