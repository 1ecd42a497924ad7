// The workspace of MultiBoxLoss on the CPU.
#pragma once

#include "arena.h"
#include "confidence_loss.h"
#include "matching.h"
#include "mining.h"
#include "multibox_batch.h"

namespace caffe {

// The label rows that count, grouped by image: those of image n are first[n]..first[n + 1].
struct Truths {
  Box* box;
  float* area;
  int32_t* row;
  int32_t* first;
};

struct ImageResult {
  double loc_loss, conf_loss;
  int64_t positives, negatives;
};

// The workspace of one thread.
struct Scratch {
  float* decoded;  // [P, 4] predictions as boxes
  BoxColumns columns;
  MatchScratch matching;
  int32_t* match;  // one per padded prior, in the terms of match_boxes
  Truths chosen;   // the ground truths of one class
  float* losses;
  int32_t* targets;
  int32_t* positives;  // their priors
  float* rows;         // scores of some of them
  Candidate* candidates;
};

struct Workspace {
  Truths truths;
  ImageResult* results;
  BoxColumns priors;
  uint8_t* targets;  // [N, P, C], for LOGISTIC without mining
  Scratch* threads;
};

inline bool suppresses(const MultiBoxLossOptions& o) {
  return o.nms_threshold > 0.0f && o.mining_type != MiningType::NONE;
}

inline BoxColumns take_columns(Arena& arena, int64_t priors) {
  const int64_t padded = padded_to_blocks(priors);
  BoxColumns c;
  c.xmin = arena.take<float>(padded);
  c.ymin = arena.take<float>(padded);
  c.xmax = arena.take<float>(padded);
  c.ymax = arena.take<float>(padded);
  c.area = arena.take<float>(padded);
  c.state = arena.take<int32_t>(padded);
  c.bounds = arena.take<Box>(padded / kMatchBlock);
  return c;
}

inline Truths take_truths(Arena& arena, const MultiBoxLossSizes& sizes) {
  return {arena.take<Box>(sizes.labels), arena.take<float>(sizes.labels), arena.take<int32_t>(sizes.labels),
          arena.take<int32_t>(sizes.images + 1)};
}

inline Scratch take_scratch(Arena& arena, const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o) {
  const int64_t padded = padded_to_blocks(sizes.priors);
  Scratch s = {};
  if (!o.use_prior_for_matching || suppresses(o)) s.decoded = arena.take<float>(sizes.priors * 4);
  if (!o.use_prior_for_matching) s.columns = take_columns(arena, sizes.priors);
  s.matching = {arena.take<float>(padded), arena.take<int32_t>(padded), arena.take<float>(sizes.labels),
                arena.take<int32_t>(sizes.labels)};
  s.match = arena.take<int32_t>(padded);
  s.chosen = take_truths(arena, sizes);
  s.losses = arena.take<float>(sizes.priors);
  s.targets = arena.take<int32_t>(sizes.priors);
  s.positives = arena.take<int32_t>(sizes.priors);
  s.rows = arena.take<float>(static_cast<int64_t>(kGathered) * o.num_classes);
  s.candidates = arena.take<Candidate>(sizes.priors);
  return s;
}

inline Workspace take_workspace(Arena& arena, const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o,
                                int threads) {
  Workspace w = {};
  w.truths = take_truths(arena, sizes);
  w.results = arena.take<ImageResult>(sizes.images);
  if (o.use_prior_for_matching) w.priors = take_columns(arena, sizes.priors);
  if (targets_by_score(o)) w.targets = arena.take<uint8_t>(sizes.images * sizes.priors * o.num_classes);
  w.threads = arena.take<Scratch>(threads);
  for (int t = 0; t < threads; ++t) {
    const Scratch scratch = take_scratch(arena, sizes, o);
    if (w.threads) w.threads[t] = scratch;
  }
  return w;
}

}  // namespace caffe
