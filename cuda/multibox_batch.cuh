// A batch in MultiBoxLoss on the GPU.
#pragma once

#include "arena.h"
#include "matching.h"
#include "multibox_batch.h"
#include "score_key.h"

namespace caffe {

// Sums of the priors of one thread block.
struct PartialLoss {
  double loc, conf;
  int32_t positives, negatives;
};

// A key (score_key.h) of the type that atomicMax takes; 0 stands for none. The value is not negative, so its bits rank
// it.
__device__ inline unsigned long long first_largest(float value, int32_t index) {
  return ranked_key(static_cast<uint32_t>(float_bits(value)), static_cast<uint32_t>(index));
}
// The key of the same value with another index.
__device__ inline unsigned long long with_index(unsigned long long key, int32_t index) {
  return ranked_key(static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(index));
}
__device__ inline int32_t index_of(unsigned long long key) { return static_cast<int32_t>(place_of(key)); }

// A unit is matched as a whole: an image, or an image's predictions of one class.
struct DeviceBatch : MultiBoxBatch {
  int32_t* match;  // [units, P]; until finish_matches it holds places in the arrays of ground truths below

  // The label rows that count, by image: those of image n are at first[n]..first[n + 1].
  int32_t* first;                  // [N + 1]
  int32_t* truth_row;              // [M]
  Box* truth;                      // [M]
  float* truth_area;               // [M]
  unsigned long long* truth_best;  // [M] its best box that may still be free, as first_largest
  int32_t* bad_label;              // [1] not 0: some row's label is not a class

  Box* decoded;         // [units, P] predictions as boxes, if these are matched
  float* best_overlap;  // [units, P]
  int32_t* best_truth;  // [units, P]

  int32_t* positives;     // [units] before mining
  uint32_t* rank;         // [N, P] 0: not to be chosen
  uint8_t* targets;       // [N, P, C], for LOGISTIC without mining
  PartialLoss* partials;  // one per block of add_losses

  __device__ int classes() const { return match_classes(options); }
  __device__ int64_t at(int64_t unit, int64_t p) const { return unit * sizes.priors + p; }

  __device__ Box box(int64_t unit, int64_t p) const {
    return options.use_prior_for_matching ? load_box(prior + 4 * p) : decoded[at(unit, p)];
  }

  // Whether ground truth `t`, of the unit's image, is one that the unit matches.
  __device__ bool belongs(int32_t t, int64_t unit) const {
    if (classes() == 1) return true;
    const int k = static_cast<int>(unit % classes());
    return k != options.background_label_id && static_cast<int>(label_row(truth_row[t])[1]) == k;
  }
};

}  // namespace caffe
