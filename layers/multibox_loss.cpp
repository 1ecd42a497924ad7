#include "multibox_loss.h"

#include <algorithm>
#include <atomic>

#include "arena.h"
#include "matching.h"
#include "mining.h"
#include "multibox_terms.h"
#include "parallel.h"
#include "vectorize.h"

namespace caffe {
namespace {

// ---- Workspace

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

// What one thread works with.
struct Scratch {
  float* decoded;  // [P, 4] predictions as boxes
  BoxColumns columns;
  MatchScratch matching;
  int32_t* match;  // one a padded prior, in the terms of match_boxes
  Truths chosen;   // the ground truths of one class
  float* losses;
  int32_t* targets;
  Candidate* candidates;
};

struct Workspace {
  Truths truths;
  ImageResult* results;
  BoxColumns priors;
  uint8_t* targets;  // [N, P, C], for LOGISTIC without mining
  Scratch* threads;
};

bool targets_by_score(const MultiBoxLossOptions& o) {
  return o.conf_loss_type == ConfLossType::LOGISTIC && o.mining_type == MiningType::NONE;
}

bool suppresses(const MultiBoxLossOptions& o) { return o.nms_threshold > 0.0f && o.mining_type != MiningType::NONE; }

BoxColumns take_columns(Arena& arena, int64_t priors) {
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

Truths take_truths(Arena& arena, const MultiBoxLossSizes& sizes) {
  return {arena.take<Box>(sizes.labels), arena.take<float>(sizes.labels), arena.take<int32_t>(sizes.labels),
          arena.take<int32_t>(sizes.images + 1)};
}

Scratch take_scratch(Arena& arena, const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o) {
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
  s.candidates = arena.take<Candidate>(sizes.priors);
  return s;
}

Workspace take_workspace(Arena& arena, const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, int threads) {
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

// As many threads as there are images to give them, and work worth starting them for.
int useful_threads(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, int threads) {
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

// ---- Ground truth

// Sorts the rows that count into images, in their order.
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
  // Each beginning has moved on to its image's end, which is the next image's beginning.
  for (int64_t n = sizes.images; n > 0; --n) truths.first[n] = truths.first[n - 1];
  truths.first[0] = 0;
}

// ---- One image

struct Inputs {
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

Box error_of(const Inputs& in, int64_t image, int64_t p, int64_t loc_class, int32_t row) {
  return location_error(in.options, load_box(in.prior + 4 * p), load_box(in.variance() + 4 * p),
                        load_box(in.label_row(row) + 3), load_box(in.loc + in.loc_offset(image, p, loc_class)));
}

CAFFE_VECTORIZE void decode_all(const Inputs& in, int64_t image, int64_t loc_class, float* decoded) {
  const CodeType type = in.options.code_type;
  const bool variance_in_target = in.options.variance_in_target;
  for (int64_t p = 0; p < in.sizes.priors; ++p) {
    store_box(decode(type, variance_in_target, load_box(in.prior + 4 * p), load_box(in.variance() + 4 * p),
                     load_box(in.loc + in.loc_offset(image, p, loc_class))),
              decoded + 4 * p);
  }
}

// Matches the image's priors (or their predictions of class k) to ground truths; scratch.match gets indices into the
// ground truths returned.
Truths match_image(const Inputs& in, const Workspace& w, const Scratch& s, int64_t image, int k) {
  const MultiBoxLossOptions& o = in.options;
  const int32_t first = w.truths.first[image];
  Truths truths = {w.truths.box + first, w.truths.area + first, w.truths.row + first, nullptr};
  int count = w.truths.first[image + 1] - first;
  if (match_classes(o) > 1) {  // the ground truths of class k alone
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

// Ranks candidates and brings those to be chosen to the front; returns their number.
int64_t choose(const Inputs& in, const Scratch& s, int64_t image, int64_t candidates, int64_t wanted) {
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

// Marks the hardest of the boxes that overlap no ground truth much as negatives, a multiple of the positives.
void mine_negatives(const Inputs& in, const Scratch& s, int64_t image) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const int64_t positives = std::count_if(s.match, s.match + priors, [](int32_t m) { return m >= 0; });
  const float ratio = static_cast<float>(positives) * o.neg_pos_ratio;
  const int64_t wanted = ratio < 1.0f ? 0 : (ratio < static_cast<float>(priors) ? static_cast<int64_t>(ratio) : priors);
  if (wanted == 0) return;
  confidence_losses(o.conf_loss_type, in.scores(image), priors, o.num_classes, nullptr, o.background_label_id,
                    s.losses);
  int64_t candidates = 0;
  for (int64_t p = 0; p < priors; ++p) {
    s.candidates[candidates] = candidate(s.losses[p], static_cast<int32_t>(p));
    candidates += s.match[p] == kUnmatched && s.matching.best_overlap[p] < o.neg_overlap;
  }
  const int64_t chosen = choose(in, s, image, candidates, wanted);
  for (int64_t i = 0; i < chosen; ++i) s.match[s.candidates[i].index()] = kNegative;
}

// Keeps the hardest boxes of all: others are neither positive nor negative.
void mine_hard_examples(const Inputs& in, const Scratch& s, int64_t image, const Truths& truths) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  for (int64_t p = 0; p < priors; ++p) {
    s.targets[p] = s.match[p] >= 0 ? target_class(o, in.label_row(truths.row[s.match[p]])) : o.background_label_id;
  }
  confidence_losses(o.conf_loss_type, in.scores(image), priors, o.num_classes, s.targets, 0, s.losses);
  for (int64_t p = 0; p < priors; ++p) {
    if (s.match[p] >= 0) {
      s.losses[p] += location_loss(o.loc_loss_type, error_of(in, image, p, 0, truths.row[s.match[p]]));
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

// From indices of ground truths to label rows; a match to a class that has no location predictions is none.
void write_match(const Inputs& in, const Scratch& s, const Truths& truths, int32_t* match) {
  const MultiBoxLossOptions& o = in.options;
  for (int64_t p = 0; p < in.sizes.priors; ++p) {
    int32_t m = s.match[p] == kNegative ? kNegative : kNotChosen;
    if (s.match[p] >= 0) {
      m = truths.row[s.match[p]];
      const float label_class = in.label_row(m)[1];
      if (!o.share_location && !(label_class >= 0.0f && label_class < static_cast<float>(o.num_classes)))
        m = kNotChosen;
    }
    match[p] = m;
  }
}

// The class that each prior of an image is to be given, without mining.
void write_targets(const Inputs& in, const int32_t* match, int32_t* targets) {
  const int64_t priors = in.sizes.priors;
  std::fill(targets, targets + priors, in.options.background_label_id);
  for (int k = 0; k < match_classes(in.options); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row >= 0) targets[p] = target_class(in.options, in.label_row(row));
    }
  }
}

ImageResult image_loss(const Inputs& in, const Scratch& s, int64_t image, const int32_t* match) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const bool mined = o.mining_type != MiningType::NONE;
  ImageResult result = {0.0, 0.0, 0, 0};
  for (int k = 0; k < match_classes(o); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row == kNotChosen) continue;
      int target = o.background_label_id;
      if (row >= 0) {
        ++result.positives;
        target = target_class(o, in.label_row(row));
        result.loc_loss += location_loss(o.loc_loss_type, error_of(in, image, p, in.loc_class(k, row), row));
      } else {
        ++result.negatives;
      }
      if (mined) {
        result.conf_loss +=
            confidence_loss(o.conf_loss_type, in.scores(image) + p * o.num_classes, o.num_classes, target);
      }
    }
  }
  if (o.mining_type == MiningType::NONE && o.conf_loss_type == ConfLossType::SOFTMAX) {
    write_targets(in, match, s.targets);
    confidence_losses(o.conf_loss_type, in.scores(image), priors, o.num_classes, s.targets, 0, s.losses);
    for (int64_t p = 0; p < priors; ++p) result.conf_loss += s.losses[p];
  }
  return result;
}

ImageResult forward_image(const Inputs& in, const Workspace& w, const Scratch& s, int64_t image, int32_t* match) {
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

// ---- LOGISTIC without mining: a target for each score

// Calls body(index into the batch's scores) for each target of 1 that an image's matches set.
template <typename Body>
void for_each_target(const Inputs& in, int64_t image, const int32_t* match, const Body& body) {
  const int64_t priors = in.sizes.priors;
  for (int k = 0; k < match_classes(in.options); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row < 0) continue;
      body(image * priors + p * in.options.num_classes + target_class(in.options, in.label_row(row)));
    }
  }
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

// ---- Gradients

CAFFE_VECTORIZE void scaled_sigmoids(const float* scores, int64_t count, float scale, float* gradient) {
  for (int64_t i = 0; i < count; ++i) gradient[i] = sigmoid(scores[i]) * scale;
}

CAFFE_VECTORIZE void gradient_row(ConfLossType type, const float* scores, int num_classes, int target, float scale,
                                  float* gradient) {
  confidence_gradient(type, scores, num_classes, target, scale, gradient);
}

void backward_image(const Inputs& in, int64_t image, const int32_t* match, float loc_scale, float conf_scale,
                    float* loc_diff, float* conf_diff) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const int64_t classes = o.num_classes;
  const bool mined = o.mining_type != MiningType::NONE;
  float* loc_begin = loc_diff + in.loc_offset(image, 0, 0);
  std::fill(loc_begin, loc_begin + priors * in.loc_classes() * 4, 0.0f);
  float* conf_begin = conf_diff + image * priors * classes;
  if (mined || !o.with_conf) {
    std::fill(conf_begin, conf_begin + priors * classes, 0.0f);
  } else if (o.conf_loss_type == ConfLossType::LOGISTIC) {
    scaled_sigmoids(in.scores(image), priors * classes, conf_scale, conf_begin);
  }
  const auto add_confidence = [&](int64_t p, int target) {
    gradient_row(o.conf_loss_type, in.scores(image) + p * classes, o.num_classes, target, conf_scale,
                 conf_begin + p * classes);
  };
  for (int k = 0; k < match_classes(o); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row >= 0 && o.with_loc) {
        const int64_t c = in.loc_class(k, row);
        const Box error = error_of(in, image, p, c, row);
        store_box({location_gradient(o.loc_loss_type, error.xmin) * loc_scale,
                   location_gradient(o.loc_loss_type, error.ymin) * loc_scale,
                   location_gradient(o.loc_loss_type, error.xmax) * loc_scale,
                   location_gradient(o.loc_loss_type, error.ymax) * loc_scale},
                  loc_diff + in.loc_offset(image, p, c));
      }
      if (mined && o.with_conf && row != kNotChosen) {
        add_confidence(p, row >= 0 ? target_class(o, in.label_row(row)) : o.background_label_id);
      }
    }
  }
  if (!mined && o.with_conf && o.conf_loss_type == ConfLossType::SOFTMAX) {
    for (int64_t p = 0; p < priors; ++p) {
      int target = o.background_label_id;
      for (int k = 0; k < match_classes(o); ++k) {  // of several classes the last, as in write_targets
        const int32_t row = match[k * priors + p];
        if (row >= 0) target = target_class(o, in.label_row(row));
      }
      add_confidence(p, target);
    }
  }
}

}  // namespace

int64_t multibox_loss_workspace_bytes_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options,
                                          int threads) {
  Arena counter(nullptr);
  take_workspace(counter, sizes, options, useful_threads(sizes, options, threads));
  return counter.used();
}

void multibox_loss_forward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                               const float* conf, const float* prior, const float* label, void* workspace, int threads,
                               float* loss, int32_t* match, int32_t* counts) {
  threads = useful_threads(sizes, options, threads);
  Arena arena(workspace);
  const Workspace w = take_workspace(arena, sizes, options, threads);
  const Inputs in = {sizes, options, loc, conf, prior, label};
  const int64_t matches = match_classes(options) * sizes.priors;
  group_by_image(sizes, options, label, w.truths);
  if (options.use_prior_for_matching) {
    fill_columns(prior, sizes.priors, options.ignore_cross_boundary_bbox, w.priors);
  }
  for_each_image(sizes.images, threads, [&](int64_t image, int slot) {
    w.results[image] = forward_image(in, w, w.threads[slot], image, match + image * matches);
  });
  if (targets_by_score(options)) {
    const int64_t scores = sizes.priors * options.num_classes;
    std::fill(w.targets, w.targets + sizes.images * scores, 0);
    for (int64_t n = 0; n < sizes.images; ++n) {
      for_each_target(in, n, match + n * matches, [&](int64_t index) { w.targets[index] = 1; });
    }
    for_each_image(sizes.images, threads, [&](int64_t image, int) {
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
  *loss = static_cast<float>((options.with_loc ? options.loc_weight * total.loc_loss / by : 0.0) +
                             (options.with_conf ? total.conf_loss / by : 0.0));
  counts[0] = static_cast<int32_t>(total.positives);
  counts[1] = static_cast<int32_t>(total.negatives);
}

void multibox_loss_backward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, int threads, float* loc_diff,
                                float* conf_diff) {
  const Inputs in = {sizes, options, loc, conf, prior, label};
  const int64_t matches = match_classes(options) * sizes.priors;
  const float conf_scale = *top_diff / normalizer(options, sizes.images, sizes.priors, counts[0]);
  const float loc_scale = options.loc_weight * conf_scale;
  for_each_image(sizes.images, useful_threads(sizes, options, threads), [&](int64_t image, int) {
    backward_image(in, image, match + image * matches, loc_scale, conf_scale, loc_diff, conf_diff);
  });
  if (targets_by_score(options) && options.with_conf) {
    for (int64_t n = 0; n < sizes.images; ++n) {
      // Several matches may set one target, so the gradient is written, not added to.
      for_each_target(in, n, match + n * matches,
                      [&](int64_t index) { conf_diff[index] = (sigmoid(conf[index]) - 1.0f) * conf_scale; });
    }
  }
}

}  // namespace caffe
