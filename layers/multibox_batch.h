// A batch on its way through MultiBoxLoss on the CPU: where things are, and the loops over it.
#pragma once

#include <algorithm>
#include <atomic>

#include "multibox_terms.h"
#include "parallel.h"

namespace caffe {

struct MultiBoxBatch {
  MultiBoxLossSizes sizes;
  const MultiBoxLossOptions& options;
  const float *loc, *conf, *prior, *label;

  int64_t loc_classes() const { return options.share_location ? 1 : options.num_classes; }
  const float* scores(int64_t image) const { return conf + image * sizes.priors * options.num_classes; }
  const float* variance() const { return prior + 4 * sizes.priors; }
  const float* label_row(int32_t row) const { return label + 8 * static_cast<int64_t>(row); }

  // Where the location of `prior` for location class `c` is in loc and its gradient.
  int64_t loc_offset(int64_t image, int64_t p, int64_t c) const {
    return ((image * sizes.priors + p) * loc_classes() + c) * 4;
  }
  // The location class that a match is about: of match class k, to label row `row`.
  int64_t loc_class(int k, int32_t row) const {
    if (options.share_location) return 0;
    return options.use_prior_for_matching ? static_cast<int64_t>(label_row(row)[1]) : k;
  }
};

inline Box error_of(const MultiBoxBatch& in, int64_t image, int64_t p, int64_t loc_class, int32_t row) {
  return location_error(in.options, load_box(in.prior + 4 * p), load_box(in.variance() + 4 * p),
                        load_box(in.label_row(row) + 3), load_box(in.loc + in.loc_offset(image, p, loc_class)));
}

// LOGISTIC without mining gives each score of the batch a target of its own.
inline bool targets_by_score(const MultiBoxLossOptions& o) {
  return o.conf_loss_type == ConfLossType::LOGISTIC && o.mining_type == MiningType::NONE;
}

// Calls body(index into the batch's scores) for each target of 1 that an image's matches set.
template <typename Body>
void for_each_target(const MultiBoxBatch& in, int64_t image, const int32_t* match, const Body& body) {
  const int64_t priors = in.sizes.priors;
  for (int k = 0; k < match_classes(in.options); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row < 0) continue;
      body(image * priors + p * in.options.num_classes + target_class(in.options, in.label_row(row)));
    }
  }
}

// As many threads as there are images to give them, and work worth starting them for.
inline int useful_threads(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, int threads) {
  const int64_t scores = sizes.images * sizes.priors * o.num_classes;
  return static_cast<int>(std::clamp<int64_t>(std::min(sizes.images, 1 + scores / 100000), 1, std::max(threads, 1)));
}

// Calls body(image, slot) for every image; slots are numbered from 0 and used by one thread at a time.
template <typename Body>
void for_each_image(int64_t images, int threads, const Body& body) {
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t image = next++; image < images; image = next++) body(image, static_cast<int>(slot));
    }
  });
}

}  // namespace caffe
