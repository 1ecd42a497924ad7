#include "matching.h"

#include <algorithm>
#include <cmath>

#include "vectorize.h"

namespace caffe {
namespace {

// The smallest box around the boxes of the block from `begin`; NaN coordinates are ignored.
Box bounds_of(const BoxColumns& c, int64_t begin) {
  Box bounds = {INFINITY, INFINITY, -INFINITY, -INFINITY};
  for (int64_t i = begin; i < begin + kMatchBlock; ++i) {
    bounds.xmin = c.xmin[i] < bounds.xmin ? c.xmin[i] : bounds.xmin;
    bounds.ymin = c.ymin[i] < bounds.ymin ? c.ymin[i] : bounds.ymin;
    bounds.xmax = c.xmax[i] > bounds.xmax ? c.xmax[i] : bounds.xmax;
    bounds.ymax = c.ymax[i] > bounds.ymax ? c.ymax[i] : bounds.ymax;
  }
  return bounds;
}

bool may_overlap(const Box& bounds, const Box& truth) {
  return bounds.xmin < truth.xmax && bounds.xmax > truth.xmin && bounds.ymin < truth.ymax && bounds.ymax > truth.ymin;
}

// Overlaps of one block of boxes with a ground truth (0 where they do not count), and the largest of them as bits:
// overlaps are never negative, so their bits have the same order, and a maximum of integers vectorizes.
inline int32_t block_overlaps(const BoxColumns& c, int64_t begin, const Box& truth, float truth_area, float* overlaps) {
  const float* xmin = c.xmin + begin;
  const float* ymin = c.ymin + begin;
  const float* xmax = c.xmax + begin;
  const float* ymax = c.ymax + begin;
  const float* areas = c.area + begin;
  int32_t largest = 0;
  for (int k = 0; k < kMatchBlock; ++k) {
    const float value = overlap({xmin[k], ymin[k], xmax[k], ymax[k]}, areas[k], truth, truth_area);
    const float counted = value > kLeastOverlap ? value : 0.0f;
    overlaps[k] = counted;
    const int32_t bits = float_bits(counted);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

int first_with(const float* overlaps, float value) {
  int k = 0;
  while (overlaps[k] != value) ++k;
  return k;
}

// Every overlap with ground truth `t`: updates the boxes' best and finds the ground truth's own best box.
CAFFE_VECTORIZE void meet_truth(const BoxColumns& boxes, int64_t blocks, const Box& truth, float area, int32_t t,
                                const MatchScratch& scratch) {
  float overlaps[kMatchBlock];
  float best = 0.0f;
  int64_t best_box = -1;
  for (int64_t b = 0; b < blocks; ++b) {
    if (!may_overlap(boxes.bounds[b], truth)) continue;
    const int64_t begin = b * kMatchBlock;
    const float largest = float_from_bits(block_overlaps(boxes, begin, truth, area, overlaps));
    if (largest == 0.0f) continue;
    float* __restrict best_overlap = scratch.best_overlap + begin;
    int32_t* __restrict best_truth = scratch.best_truth + begin;
    for (int k = 0; k < kMatchBlock; ++k) {
      const bool better = overlaps[k] > best_overlap[k];
      best_overlap[k] = better ? overlaps[k] : best_overlap[k];
      best_truth[k] = better ? t : best_truth[k];
    }
    if (largest > best) {
      best = largest;
      best_box = begin + first_with(overlaps, largest);
    }
  }
  scratch.truth_overlap[t] = best;
  scratch.truth_box[t] = static_cast<int32_t>(best_box);
}

// The best box that is still free for ground truth `t`.
CAFFE_VECTORIZE void find_free_box(const BoxColumns& boxes, int64_t blocks, const Box& truth, float area, int32_t t,
                                   const int32_t* match, const MatchScratch& scratch) {
  float overlaps[kMatchBlock];
  float best = 0.0f;
  int64_t best_box = -1;
  for (int64_t b = 0; b < blocks; ++b) {
    if (!may_overlap(boxes.bounds[b], truth)) continue;
    const int64_t begin = b * kMatchBlock;
    if (float_from_bits(block_overlaps(boxes, begin, truth, area, overlaps)) <= best) continue;
    for (int k = 0; k < kMatchBlock; ++k) {
      if (match[begin + k] == kUnmatched && overlaps[k] > best) {
        best = overlaps[k];
        best_box = begin + k;
      }
    }
  }
  scratch.truth_overlap[t] = best;
  scratch.truth_box[t] = static_cast<int32_t>(best_box);
}

// Repeatedly matches the pair of largest overlap. A ground truth's best box is searched again only when it comes to
// the front with a box that was taken meanwhile: the old overlap is a bound on the remaining ones. Among equal overlaps
// the earlier ground truth may always go first: each has its lowest box, and of two that want the same box the same one
// gets it in any order.
void match_bipartite(const BoxColumns& boxes, int64_t blocks, const GroundTruths& truths, const MatchScratch& scratch,
                     int32_t* match) {
  float* best = scratch.truth_overlap;
  int32_t* box = scratch.truth_box;
  for (;;) {
    int front = -1;
    for (int t = 0; t < truths.count; ++t) {
      if (best[t] > (front < 0 ? 0.0f : best[front])) front = t;
    }
    if (front < 0) return;
    if (match[box[front]] == kUnmatched) {
      match[box[front]] = front;
      best[front] = 0.0f;
    } else {
      find_free_box(boxes, blocks, truths.box[front], truths.area[front], front, match, scratch);
    }
  }
}

CAFFE_VECTORIZE void match_per_prediction(int64_t padded, float threshold, const MatchScratch& scratch,
                                          int32_t* match) {
  for (int64_t i = 0; i < padded; ++i) {
    const int32_t truth = scratch.best_truth[i];
    const bool takes = match[i] == kUnmatched && scratch.best_overlap[i] >= threshold;
    match[i] = takes ? truth : match[i];
  }
}

}  // namespace

void fill_columns(const float* boxes, int64_t count, bool ignore_cross_boundary, const BoxColumns& columns) {
  const int64_t padded = padded_to_blocks(count);
  const Box nowhere = {INFINITY, INFINITY, -INFINITY, -INFINITY};
  for (int64_t i = 0; i < padded; ++i) {
    Box box = i < count ? load_box(boxes + 4 * i) : nowhere;
    const bool ignored = i < count && ignore_cross_boundary && crosses_boundary(box);
    if (ignored) box = nowhere;
    columns.xmin[i] = box.xmin;
    columns.ymin[i] = box.ymin;
    columns.xmax[i] = box.xmax;
    columns.ymax[i] = box.ymax;
    columns.area[i] = area(box);
    columns.state[i] = ignored ? kIgnored : kUnmatched;
  }
  for (int64_t b = 0; b < padded / kMatchBlock; ++b) columns.bounds[b] = bounds_of(columns, b * kMatchBlock);
}

void match_boxes(const BoxColumns& boxes, int64_t count, const GroundTruths& truths, bool per_prediction,
                 float threshold, const MatchScratch& scratch, int32_t* match) {
  const int64_t padded = padded_to_blocks(count);
  const int64_t blocks = padded / kMatchBlock;
  std::copy(boxes.state, boxes.state + padded, match);
  std::fill(scratch.best_overlap, scratch.best_overlap + padded, 0.0f);
  std::fill(scratch.best_truth, scratch.best_truth + padded, kUnmatched);
  for (int t = 0; t < truths.count; ++t) meet_truth(boxes, blocks, truths.box[t], truths.area[t], t, scratch);
  match_bipartite(boxes, blocks, truths, scratch, match);
  if (per_prediction) match_per_prediction(padded, threshold, scratch, match);
}

}  // namespace caffe
