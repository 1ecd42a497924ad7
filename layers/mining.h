// Choosing the boxes that a batch is trained on: hard negatives, or hard examples of both kinds (the SSD paper,
// section 2.2, "Hard negative mining"; Shrivastava et al. 2016 for HARD_EXAMPLE).
#pragma once

#include <cstdint>

#include "score_key.h"

namespace caffe {

// A box that may be chosen: its loss and index in one number, which is greater for a greater loss, then a lower index.
struct Candidate {
  uint64_t key;
  int32_t index() const { return static_cast<int32_t>(place_of(key)); }
};
inline Candidate candidate(float loss, int32_t index) { return {score_key(loss, static_cast<uint32_t>(index))}; }

// Keeps the boxes of `index` that may be among the `wanted` with the greatest losses, in their order; returns their
// number. bounds: upper bounds of the losses, by box, at most `slack` above them; boxes with a bound of NaN are kept.
int64_t keep_possible(const float* bounds, float slack, int32_t* index, int64_t count, int64_t wanted);

// Moves the `wanted` greatest candidates to the front, unordered; the rest is overwritten.
void choose_greatest(Candidate* candidates, int64_t count, int64_t wanted);

// Non-maximum suppression: goes through the `top_k` greatest candidates (-1: all) by loss, keeps each whose box has an
// area of at least 1e-5 and overlaps no box kept before by more than `threshold`, and stops at `wanted`. Kept ones are
// moved to the front; their number is returned. boxes: 4 floats each, by the candidates' index.
int64_t choose_suppressed(Candidate* candidates, int64_t count, int64_t wanted, const float* boxes, float threshold,
                          int top_k);

}  // namespace caffe
