// A batch of MultiBoxLoss: where in its arrays things are. Shared by CPU and GPU.
#pragma once

#include <algorithm>

#include "multibox_terms.h"

namespace caffe {

// LOGISTIC without mining gives each score of the batch a target of its own.
CAFFE_HOST_DEVICE bool targets_by_score(const MultiBoxLossOptions& o) {
  return o.conf_loss_type == ConfLossType::LOGISTIC && o.mining_type == MiningType::NONE;
}

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
  // Whether label row `row` is of a class that has location predictions.
  CAFFE_HOST_DEVICE bool has_location(int32_t row) const {
    const float label_class = label_row(row)[1];
    return options.share_location || (label_class >= 0.0f && label_class < static_cast<float>(options.num_classes));
  }
  // The class that a box is to be given: that of its label row, the background where `row` is none.
  CAFFE_HOST_DEVICE int target(int32_t row) const {
    return row >= 0 ? target_class(options, label_row(row)) : options.background_label_id;
  }
  // The class that prior `p` is to be given without mining: of several matches that of the last class. `match`: the
  // image's.
  CAFFE_HOST_DEVICE int target(const int32_t* match, int64_t p) const {
    int32_t last = kNotChosen;
    for (int k = 0; k < match_classes(options); ++k) {
      const int32_t row = match[k * sizes.priors + p];
      if (row >= 0) last = row;
    }
    return target(last);
  }
  // The score whose target a match sets to 1, where targets go by score.
  CAFFE_HOST_DEVICE int64_t target_offset(int64_t image, int64_t p, int32_t row) const {
    return image * sizes.priors + p * options.num_classes + target_class(options, label_row(row));
  }
  // The prediction of location class `c` as a box.
  CAFFE_HOST_DEVICE Box predicted_box(int64_t image, int64_t p, int64_t c) const {
    return decode(options.code_type, options.encode_variance_in_target, load_box(prior + 4 * p),
                  load_box(variance() + 4 * p), load_box(loc + loc_offset(image, p, c)));
  }
  // location_error of prior `p`'s prediction of location class `c`, matched to label row `row`.
  CAFFE_HOST_DEVICE Box error(int64_t image, int64_t p, int64_t c, int32_t row) const {
    return location_error(options, load_box(prior + 4 * p), load_box(variance() + 4 * p), load_box(label_row(row) + 3),
                          load_box(loc + loc_offset(image, p, c)));
  }
};

// ---- On the CPU

// Calls body(index into the batch's scores) for each target of 1 that an image's matches set.
template <typename Body>
void for_each_target(const MultiBoxBatch& in, int64_t image, const int32_t* match, const Body& body) {
  const int64_t priors = in.sizes.priors;
  for (int k = 0; k < match_classes(in.options); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row >= 0) body(in.target_offset(image, p, row));
    }
  }
}

// The number of threads: at most one per image, and only as many as the work justifies.
inline int useful_threads(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, int threads) {
  const int64_t scores = sizes.images * sizes.priors * o.num_classes;
  return static_cast<int>(std::clamp<int64_t>(std::min(sizes.images, 1 + scores / 100000), 1, std::max(threads, 1)));
}

}  // namespace caffe
