#include "multibox_loss.h"

#include <algorithm>

#include "multibox_batch.h"
#include "multibox_workspace.h"
#include "parallel.h"
#include "vectorize.h"

namespace caffe {
namespace {

// Groups the rows that count by image, in their order.
void group_by_image(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, const float* label,
                    const Truths& truths) {
  const auto image_of = [&](int64_t row) -> int64_t {
    const float* r = label + 8 * row;
    const bool counts = r[0] >= 0.0f && r[0] < static_cast<float>(sizes.images) && (o.use_difficult_gt || r[7] == 0.0f);
    return counts ? static_cast<int64_t>(r[0]) : -1;
  };
  std::fill(truths.first, truths.first + sizes.images + 1, 0);
  for (int64_t row = 0; row < sizes.labels; ++row) {
    if (image_of(row) >= 0) ++truths.first[image_of(row) + 1];
  }
  for (int64_t n = 0; n < sizes.images; ++n) truths.first[n + 1] += truths.first[n];
  for (int64_t row = 0; row < sizes.labels; ++row) {
    if (image_of(row) < 0) continue;
    const int32_t place = truths.first[image_of(row)]++;
    truths.box[place] = load_box(label + 8 * row + 3);
    truths.area[place] = area(truths.box[place]);
    truths.row[place] = static_cast<int32_t>(row);
  }
  // Each start has advanced to its image's end, which is the next image's start.
  for (int64_t n = sizes.images; n > 0; --n) truths.first[n] = truths.first[n - 1];
  truths.first[0] = 0;
}

CAFFE_VECTORIZE void decode_all(const MultiBoxBatch& in, int64_t image, int64_t loc_class, float* decoded) {
  for (int64_t p = 0; p < in.sizes.priors; ++p) store_box(in.predicted_box(image, p, loc_class), decoded + 4 * p);
}

// Matches the image's priors (or their predictions of class k) to ground truths; scratch.match gets indices into the
// ground truths returned.
Truths match_image(const MultiBoxBatch& in, const Workspace& w, const Scratch& s, int64_t image, int k) {
  const MultiBoxLossOptions& o = in.options;
  const int32_t first = w.truths.first[image];
  Truths truths = {w.truths.box + first, w.truths.area + first, w.truths.row + first, nullptr};
  int count = w.truths.first[image + 1] - first;
  if (match_classes(o) > 1) {  // only the ground truths of class k
    int chosen = 0;
    for (int t = 0; t < count; ++t) {
      if (k == o.background_label_id || static_cast<int>(in.label_row(truths.row[t])[1]) != k) continue;
      s.chosen.box[chosen] = truths.box[t];
      s.chosen.area[chosen] = truths.area[t];
      s.chosen.row[chosen++] = truths.row[t];
    }
    truths = s.chosen;
    count = chosen;
  }
  if (count == 0) {
    std::fill(s.match, s.match + in.sizes.priors, kUnmatched);
    return truths;
  }
  if (!o.use_prior_for_matching) {
    decode_all(in, image, k, s.decoded);
    fill_columns(s.decoded, in.sizes.priors, o.ignore_cross_boundary_bbox, s.columns);
  }
  match_boxes(o.use_prior_for_matching ? w.priors : s.columns, in.sizes.priors, {truths.box, truths.area, count},
              o.match_type == MatchType::PER_PREDICTION, o.overlap_threshold, s.matching, s.match);
  return truths;
}

// Ranks candidates and moves the chosen ones to the front; returns their number.
int64_t choose(const MultiBoxBatch& in, const Scratch& s, int64_t image, int64_t candidates, int64_t wanted) {
  const MultiBoxLossOptions& o = in.options;
  wanted = std::min(wanted, candidates);
  if (!suppresses(o)) {
    choose_greatest(s.candidates, candidates, wanted);
    return wanted;
  }
  if (!o.use_prior_for_nms && o.use_prior_for_matching) decode_all(in, image, 0, s.decoded);  // else still there
  return choose_suppressed(s.candidates, candidates, wanted, o.use_prior_for_nms ? in.prior : s.decoded,
                           o.nms_threshold, o.nms_top_k);
}

// Computes the losses of the boxes of `index` as background, or only of those that may be among the `wanted` greatest;
// then only these stay in `index`. Returns their number. s.losses has the losses by box.
int64_t candidate_losses(const MultiBoxBatch& in, const Scratch& s, int64_t image, int32_t* index, int64_t count,
                         int64_t wanted) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  if (o.conf_loss_type == ConfLossType::SOFTMAX && !suppresses(o)) {
    softmax_loss_bounds(in.scores(image), priors, o.num_classes, o.background_label_id, s.losses);
    const int64_t kept = keep_possible(s.losses, kBoundSlack, index, count, wanted);
    if (kept < priors / 2) {
      float losses[kGathered];
      int32_t targets[kGathered];
      std::fill(targets, targets + kGathered, o.background_label_id);
      for (int64_t i = 0; i < kept; i += kGathered) {
        const int64_t boxes = std::min<int64_t>(kGathered, kept - i);
        confidence_losses_at(o.conf_loss_type, in.scores(image), index + i, boxes, o.num_classes, targets, s.rows,
                             losses);
        for (int64_t k = 0; k < boxes; ++k) s.losses[index[i + k]] = losses[k];
      }
      return kept;
    }
    count = kept;
  }
  confidence_losses(o.conf_loss_type, in.scores(image), priors, o.num_classes, nullptr, o.background_label_id,
                    s.losses);
  return count;
}

// Marks the hardest of the boxes with little overlap as negatives, up to a multiple of the positives.
void mine_negatives(const MultiBoxBatch& in, const Scratch& s, int64_t image) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const int64_t positives = std::count_if(s.match, s.match + priors, [](int32_t m) { return m >= 0; });
  const int64_t wanted = negatives_wanted(o, positives, priors);
  if (wanted == 0) return;
  int32_t* index = s.positives;  // in use only later
  int64_t candidates = 0;
  for (int64_t p = 0; p < priors; ++p) {
    index[candidates] = static_cast<int32_t>(p);
    candidates += s.match[p] == kUnmatched && s.matching.best_overlap[p] < o.neg_overlap;
  }
  candidates = candidate_losses(in, s, image, index, candidates, wanted);
  for (int64_t i = 0; i < candidates; ++i) s.candidates[i] = candidate(s.losses[index[i]], index[i]);
  const int64_t chosen = choose(in, s, image, candidates, wanted);
  for (int64_t i = 0; i < chosen; ++i) s.match[s.candidates[i].index()] = kNegative;
}

// Keeps the hardest boxes of all: others are neither positive nor negative.
void mine_hard_examples(const MultiBoxBatch& in, const Scratch& s, int64_t image, const Truths& truths) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  for (int64_t p = 0; p < priors; ++p) {
    s.targets[p] = in.target(s.match[p] >= 0 ? truths.row[s.match[p]] : kNotChosen);
  }
  confidence_losses(o.conf_loss_type, in.scores(image), priors, o.num_classes, s.targets, 0, s.losses);
  for (int64_t p = 0; p < priors; ++p) {
    if (s.match[p] >= 0) {
      s.losses[p] += location_loss(o.loc_loss_type, in.error(image, p, 0, truths.row[s.match[p]]));
    }
    s.candidates[p] = candidate(s.losses[p], static_cast<int32_t>(p));
  }
  const int64_t chosen = choose(in, s, image, priors, o.sample_size);
  int32_t* is_chosen = s.matching.best_truth;
  std::fill(is_chosen, is_chosen + priors, 0);
  for (int64_t i = 0; i < chosen; ++i) is_chosen[s.candidates[i].index()] = 1;
  for (int64_t p = 0; p < priors; ++p) {
    if (s.match[p] >= 0 && !is_chosen[p])
      s.match[p] = kUnmatched;
    else if (s.match[p] == kUnmatched && is_chosen[p])
      s.match[p] = kNegative;
  }
}

// From indices of ground truths to label rows; a match to a class without location predictions does not count.
void write_match(const MultiBoxBatch& in, const Scratch& s, const Truths& truths, int32_t* match) {
  for (int64_t p = 0; p < in.sizes.priors; ++p) {
    int32_t m = s.match[p] == kNegative ? kNegative : kNotChosen;
    if (s.match[p] >= 0 && in.has_location(truths.row[s.match[p]])) m = truths.row[s.match[p]];
    match[p] = m;
  }
}

// The losses of an image. With mining, s.losses holds the confidence losses of the negatives.
ImageResult image_loss(const MultiBoxBatch& in, const Scratch& s, int64_t image, const int32_t* match) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const bool mined = o.mining_type != MiningType::NONE;
  ImageResult result = {0.0, 0.0, 0, 0};
  for (int k = 0; k < match_classes(o); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row == kNegative) {
        ++result.negatives;
        result.conf_loss += s.losses[p];
      } else if (row >= 0) {
        if (mined) s.positives[result.positives] = static_cast<int32_t>(p);
        ++result.positives;
        result.loc_loss += location_loss(o.loc_loss_type, in.error(image, p, in.loc_class(k, row), row));
      }
    }
  }
  int64_t count = 0;
  if (mined) {
    count = result.positives;
    for (int64_t i = 0; i < count; ++i) s.targets[i] = in.target(match[s.positives[i]]);
    confidence_losses_at(o.conf_loss_type, in.scores(image), s.positives, count, o.num_classes, s.targets, s.rows,
                         s.losses);
  } else if (o.conf_loss_type == ConfLossType::SOFTMAX) {
    count = priors;
    for (int64_t p = 0; p < priors; ++p) s.targets[p] = in.target(match, p);
    confidence_losses(o.conf_loss_type, in.scores(image), count, o.num_classes, s.targets, 0, s.losses);
  }
  for (int64_t i = 0; i < count; ++i) result.conf_loss += s.losses[i];
  return result;
}

ImageResult forward_image(const MultiBoxBatch& in, const Workspace& w, const Scratch& s, int64_t image,
                          int32_t* match) {
  const MultiBoxLossOptions& o = in.options;
  for (int k = 0; k < match_classes(o); ++k) {
    const Truths truths = match_image(in, w, s, image, k);
    if (w.truths.first[image + 1] > w.truths.first[image]) {
      if (o.mining_type == MiningType::MAX_NEGATIVE) mine_negatives(in, s, image);
      if (o.mining_type == MiningType::HARD_EXAMPLE) mine_hard_examples(in, s, image, truths);
    }
    write_match(in, s, truths, match + k * in.sizes.priors);
  }
  return image_loss(in, s, image, match);
}

CAFFE_VECTORIZE double logistic_sum(const float* scores, const uint8_t* targets, int64_t count) {
  constexpr int kTerms = 256;
  float terms[kTerms];
  double sum = 0.0;
  for (int64_t first = 0; first < count; first += kTerms) {
    const int64_t n = std::min<int64_t>(kTerms, count - first);
    for (int64_t i = 0; i < n; ++i) terms[i] = logistic_loss(scores[first + i], targets[first + i] != 0);
    for (int64_t i = 0; i < n; ++i) sum += terms[i];
  }
  return sum;
}

}  // namespace

int64_t multibox_loss_workspace_bytes_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options,
                                          int threads) {
  Arena counter(nullptr);
  take_workspace(counter, sizes, options, useful_threads(sizes, options, threads));
  return counter.used();
}

void multibox_loss_forward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                               const float* conf, const float* prior, const float* label, float* loss, int32_t* match,
                               int32_t* counts, void* workspace, int threads) {
  threads = useful_threads(sizes, options, threads);
  Arena arena(workspace);
  const Workspace w = take_workspace(arena, sizes, options, threads);
  const MultiBoxBatch in = {sizes, options, loc, conf, prior, label};
  const int64_t matches = match_classes(options) * sizes.priors;
  group_by_image(sizes, options, label, w.truths);
  if (options.use_prior_for_matching) {
    fill_columns(prior, sizes.priors, options.ignore_cross_boundary_bbox, w.priors);
  }
  for_each_in_turn(sizes.images, threads, [&](int64_t image, int slot) {
    w.results[image] = forward_image(in, w, w.threads[slot], image, match + image * matches);
  });
  if (targets_by_score(options)) {
    const int64_t scores = sizes.priors * options.num_classes;
    std::fill(w.targets, w.targets + sizes.images * scores, 0);
    for (int64_t n = 0; n < sizes.images; ++n) {
      for_each_target(in, n, match + n * matches, [&](int64_t index) { w.targets[index] = 1; });
    }
    for_each_in_turn(sizes.images, threads, [&](int64_t image, int) {
      w.results[image].conf_loss = logistic_sum(in.scores(image), w.targets + image * scores, scores);
    });
  }
  ImageResult total = {0.0, 0.0, 0, 0};
  for (int64_t n = 0; n < sizes.images; ++n) {
    total.loc_loss += w.results[n].loc_loss;
    total.conf_loss += w.results[n].conf_loss;
    total.positives += w.results[n].positives;
    total.negatives += w.results[n].negatives;
  }
  const double by = normalizer(options, sizes.images, sizes.priors, total.positives);
  *loss = total_loss(options, total.loc_loss, total.conf_loss, by);
  counts[0] = static_cast<int32_t>(total.positives);
  counts[1] = static_cast<int32_t>(total.negatives);
}

}  // namespace caffe
