#include "confidence_loss.h"

#include <algorithm>
#include <cmath>

#include "multibox_terms.h"
#include "vectorize.h"

namespace caffe {
namespace {

// Softmax goes over boxes in blocks of this many, one per vector lane, so that each box's sum keeps its own order.
constexpr int kLanes = kGathered;  // not 16: loops that short are unrolled instead of vectorised
// The number of classes of a block that are transposed at a time.
constexpr int kClasses = 64;
// What makes a bound an upper bound although sums and logarithms are rounded.
constexpr float kBoundRounding = 0.001f;

using Turned = float[kClasses][kLanes];

// Four numbers in a register, and the four-by-four transposition that compilers do not find.
#if defined(__GNUC__) && !defined(__clang__)
typedef float Four __attribute__((vector_size(16)));
typedef int32_t Places __attribute__((vector_size(16)));

inline void turn_four(const float* rows, int64_t stride, float* columns) {
  Four a, b, c, d;
  memcpy(&a, rows, sizeof a);
  memcpy(&b, rows + stride, sizeof b);
  memcpy(&c, rows + 2 * stride, sizeof c);
  memcpy(&d, rows + 3 * stride, sizeof d);
  const Four ac_low = __builtin_shuffle(a, c, Places{0, 4, 1, 5}),
             ac_high = __builtin_shuffle(a, c, Places{2, 6, 3, 7});
  const Four bd_low = __builtin_shuffle(b, d, Places{0, 4, 1, 5}),
             bd_high = __builtin_shuffle(b, d, Places{2, 6, 3, 7});
  const Four out[4] = {
      __builtin_shuffle(ac_low, bd_low, Places{0, 4, 1, 5}), __builtin_shuffle(ac_low, bd_low, Places{2, 6, 3, 7}),
      __builtin_shuffle(ac_high, bd_high, Places{0, 4, 1, 5}), __builtin_shuffle(ac_high, bd_high, Places{2, 6, 3, 7})};
  for (int i = 0; i < 4; ++i) memcpy(columns + i * kLanes, &out[i], sizeof out[i]);
}
#else
inline void turn_four(const float* rows, int64_t stride, float* columns) {
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 4; ++k) columns[i * kLanes + k] = rows[k * stride + i];
  }
}
#endif

// turned[c][k] = score of class first + c of box k.
inline void turn(const float* scores, int num_classes, int first, int count, Turned& turned) {
  const int64_t stride = num_classes;
  for (int k = 0; k < kLanes; k += 4) {
    const float* rows = scores + k * stride + first;
    int c = 0;
    for (; c + 4 <= count; c += 4) turn_four(rows + c, stride, &turned[c][k]);
    for (; c < count; ++c) {
      for (int i = 0; i < 4; ++i) turned[c][k + i] = rows[i * stride + c];
    }
  }
}

// e^x, or up to 6.15 % more, for x up to kMostExponent: the bits of a float, as an integer, are nearly a linear function
// of its logarithm. -kMostExponent for NaN.
constexpr float kMostExponent = 80.0f;
inline float exp_or_more(float x) {
  float y = x > -kMostExponent ? x : -kMostExponent;
  y = y < kMostExponent ? y : kMostExponent;
  return float_from_bits(static_cast<int32_t>(y * 12102203.0f + 1065353216.0f));
}

// softmax_loss_bounds of kLanes boxes. The loss is log(sum of e^(score - score of the target)). The sum is up to 6.15 %
// too large, and the logarithm of 1.0615 is 0.0597. The rest of the slack is more than the rounding errors.
CAFFE_VECTORIZE void softmax_bounds_block(const float* scores, int num_classes, int32_t target, float* bounds) {
  constexpr float kGreatestSum = 5e34f;  // less than e^kMostExponent
  Turned x;
  float chosen[kLanes], sum[kLanes], check[kLanes];
  for (int k = 0; k < kLanes; ++k) chosen[k] = scores[static_cast<int64_t>(k) * num_classes + target];
  std::fill(sum, sum + kLanes, 0.0f);
  std::fill(check, check + kLanes, 0.0f);
  for (int first = 0; first < num_classes; first += kClasses) {
    const int count = std::min(kClasses, num_classes - first);
    turn(scores, num_classes, first, count, x);
    for (int c = 0; c < count; ++c) {
      for (int k = 0; k < kLanes; ++k) {
        sum[k] += exp_or_more(x[c][k] - chosen[k]);
        check[k] += x[c][k];
      }
    }
  }
  for (int k = 0; k < kLanes; ++k) {
    const float bound = sum[k] < kGreatestSum ? log_float(sum[k]) : NAN;
    bounds[k] = bound + kBoundRounding + (check[k] - check[k]);  // NaN unless the scores are finite
  }
}

// softmax_loss of kLanes boxes, to the bit.
CAFFE_VECTORIZE void softmax_losses_block(const float* scores, int num_classes, const int32_t* targets, float* losses) {
  Turned x;
  float largest[kLanes], sum[kLanes], chosen[kLanes];
  for (int first = 0; first < num_classes; first += kClasses) {
    const int count = std::min(kClasses, num_classes - first);
    turn(scores, num_classes, first, count, x);
    if (first == 0) std::copy(x[0], x[0] + kLanes, largest);
    for (int c = 0; c < count; ++c) {
      for (int k = 0; k < kLanes; ++k) largest[k] = max_of(largest[k], x[c][k]);
    }
  }
  std::fill(sum, sum + kLanes, 0.0f);
  for (int first = 0; first < num_classes; first += kClasses) {
    const int count = std::min(kClasses, num_classes - first);
    if (num_classes > kClasses) turn(scores, num_classes, first, count, x);
    for (int c = 0; c < count; ++c) {
      for (int k = 0; k < kLanes; ++k) sum[k] += exp_not_positive(x[c][k] - largest[k]);
    }
  }
  for (int k = 0; k < kLanes; ++k) chosen[k] = scores[static_cast<int64_t>(k) * num_classes + targets[k]];
  for (int k = 0; k < kLanes; ++k) {
    losses[k] = -log_float(max_of(exp_not_positive(chosen[k] - largest[k]) / sum[k], kLeastProbability));
  }
}

// logistic_loss of each score with a target of 0; the classes are summed by the caller.
CAFFE_VECTORIZE void logistic_terms(const float* scores, int64_t count, float* terms) {
  for (int64_t i = 0; i < count; ++i) terms[i] = logistic_loss(scores[i], false);
}

void logistic_losses_block(const float* scores, int64_t boxes, int num_classes, const int32_t* targets, float* losses) {
  float terms[kClasses];
  for (int64_t i = 0; i < boxes; ++i) {
    const float* x = scores + i * num_classes;
    float sum = 0.0f;
    for (int first = 0; first < num_classes; first += kClasses) {
      const int count = std::min(kClasses, num_classes - first);
      logistic_terms(x + first, count, terms);
      const int target = targets[i] - first;
      if (target >= 0 && target < count) terms[target] = logistic_loss(x[targets[i]], true);
      for (int c = 0; c < count; ++c) sum += terms[c];
    }
    losses[i] = sum;
  }
}

}  // namespace

void confidence_losses(ConfLossType type, const float* scores, int64_t count, int num_classes, const int32_t* targets,
                       int32_t target, float* losses) {
  int32_t same[kLanes];
  std::fill(same, same + kLanes, target);
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t boxes = std::min<int64_t>(kLanes, count - i);
    const float* x = scores + i * num_classes;
    const int32_t* wanted = targets ? targets + i : same;
    if (type == ConfLossType::LOGISTIC) {
      logistic_losses_block(x, boxes, num_classes, wanted, losses + i);
    } else if (boxes == kLanes) {
      softmax_losses_block(x, num_classes, wanted, losses + i);
    } else {
      for (int64_t k = 0; k < boxes; ++k) losses[i + k] = softmax_loss(x + k * num_classes, num_classes, wanted[k]);
    }
  }
}

void softmax_loss_bounds(const float* scores, int64_t count, int num_classes, int32_t target, float* bounds) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    softmax_bounds_block(scores + i * num_classes, num_classes, target, bounds + i);
  }
  for (; i < count; ++i) {
    const float* x = scores + i * num_classes;
    float plain_sum = 0.0f;
    for (int c = 0; c < num_classes; ++c) plain_sum += x[c];
    bounds[i] = softmax_loss(x, num_classes, target) + kBoundRounding + (plain_sum - plain_sum);
  }
}

void confidence_losses_at(ConfLossType type, const float* scores, const int32_t* index, int64_t count, int num_classes,
                          const int32_t* targets, float* rows, float* losses) {
  for (int64_t i = 0; i < count; i += kGathered) {
    const int64_t boxes = std::min<int64_t>(kGathered, count - i);
    for (int64_t k = 0; k < boxes; ++k) {
      const float* row = scores + static_cast<int64_t>(index[i + k]) * num_classes;
      std::copy(row, row + num_classes, rows + k * num_classes);
    }
    confidence_losses(type, rows, boxes, num_classes, targets + i, 0, losses + i);
  }
}

}  // namespace caffe
