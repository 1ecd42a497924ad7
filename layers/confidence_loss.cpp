#include "confidence_loss.h"

#include <algorithm>

#include "multibox_terms.h"
#include "vectorize.h"

namespace caffe {
namespace {

// Softmax goes over boxes in blocks of this many, one per vector lane, so that each box's sum keeps its own order.
constexpr int kLanes = kGathered;  // not 16: loops that short are unrolled instead of vectorised
// The number of classes of a block that are transposed at a time.
constexpr int kClasses = 64;

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
