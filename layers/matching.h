// Which box is matched to which ground truth (the SSD paper, section 2.2, "Matching strategy").
#pragma once

#include <cstdint>

#include "box.h"

namespace caffe {

// Overlaps up to this do not count.
constexpr float kLeastOverlap = 1e-6f;

// The values of a match that are not the index of a ground truth.
constexpr int32_t kUnmatched = -1;
constexpr int32_t kIgnored = -2;  // crosses the image's boundary, and the options leave such boxes out

// Boxes are processed in blocks of this many; arrays over boxes are padded to whole blocks.
constexpr int kMatchBlock = 64;
inline int64_t padded_to_blocks(int64_t boxes) { return (boxes + kMatchBlock - 1) / kMatchBlock * kMatchBlock; }

// Boxes by column, each padded to whole blocks, and for each block a box around all of its boxes, so that a ground
// truth examines only blocks that it can overlap (consecutive boxes are neighbors in the image).
struct BoxColumns {
  float* xmin;
  float* ymin;
  float* xmax;
  float* ymax;
  float* area;
  int32_t* state;  // kUnmatched or kIgnored
  Box* bounds;     // one per block
};

// Fills the columns with `count` boxes (4 floats each). Ignored boxes and padding overlap nothing.
void fill_columns(const float* boxes, int64_t count, bool ignore_cross_boundary, const BoxColumns& columns);

// The ground truths of one image, or those of one class in it.
struct GroundTruths {
  const Box* box;
  const float* area;
  int count;
};

// Scratch for match_boxes: `best_overlap` and `best_truth` have one entry per padded box, the others one per ground
// truth.
struct MatchScratch {
  float* best_overlap;
  int32_t* best_truth;
  float* truth_overlap;
  int32_t* truth_box;
};

// Matches boxes to ground truths.
//
// First the bipartite part: of all pairs of a free box and a free ground truth, the one with the largest overlap
// becomes a match, until no pair overlaps; among equal pairs the lower box goes first, then the earlier ground truth.
// Then, with `per_prediction`, each free box takes the ground truth that it overlaps most (the earlier of equals) if
// that overlap is at least `threshold`.
//
// match: one per padded box; the index of the ground truth, kUnmatched or kIgnored.
// scratch.best_overlap: on return, each box's largest overlap with any ground truth (0: none).
void match_boxes(const BoxColumns& boxes, int64_t count, const GroundTruths& truths, bool per_prediction,
                 float threshold, const MatchScratch& scratch, int32_t* match);

}  // namespace caffe
