#include "detection_output.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "arena.h"
#include "parallel.h"
#include "score_key.h"
#include "vectorize.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace caffe {
namespace {

using Key = uint64_t;
constexpr int kLanes = 8;

// The number of classes, rounded up to groups of eight.
int padded(int classes) { return (classes + kLanes - 1) / kLanes * kLanes; }

// One thread's part of the workspace.
struct Scratch {
  Key* keys;         // num_classes × stride: candidates, unordered
  Key* pool;         // num_classes × stride: those of all classes together
  float* kept;       // num_classes × 6 × room: score, xmin, ymin, xmax, ymax and area of the kept boxes, each an array
  float* threshold;  // num_classes, padded: candidates are scores over this
  float* overlap;    // num_classes: a box may overlap kept ones by this
  int* count;        // num_classes: candidates
  int* seen;         // num_classes: candidates that suppression has examined
  int* num_kept;     // num_classes
};

// Room for the candidates of a class. A full list is reduced to the best `candidates()`, so twice that is enough and
// stays in cache; if nearly all would fit, there is room for all.
int64_t stride_of(const DetectionOutputOptions& o) {
  return std::min<int64_t>(o.num_priors, 2 * static_cast<int64_t>(o.candidates()));
}

// Room for the kept boxes of a class.
int64_t room_of(const DetectionOutputOptions& o) { return std::min<int64_t>(o.candidates(), o.capacity()); }

Scratch scratch_in(const DetectionOutputOptions& o, Arena* arena) {
  Scratch s;
  s.keys = arena->take<Key>(o.num_classes * stride_of(o));
  s.pool = arena->take<Key>(o.num_classes * stride_of(o));
  s.kept = arena->take<float>(o.num_classes * 6 * room_of(o));
  s.threshold = arena->take<float>(padded(o.num_classes));
  s.overlap = arena->take<float>(o.num_classes);
  s.count = arena->take<int>(o.num_classes);
  s.seen = arena->take<int>(o.num_classes);
  s.num_kept = arena->take<int>(o.num_classes);
  return s;
}

int64_t scratch_bytes(const DetectionOutputOptions& o) {
  Arena measure(nullptr);
  scratch_in(o, &measure);
  return (measure.used() + 255) / 256 * 256;
}

int useful_threads(const DetectionOutputOptions& o, int threads) { return std::clamp(threads, 1, std::max(1, o.num)); }

// Bit i set where a[i] > b[i], for eight numbers.
inline unsigned greater_mask8(const float* a, const float* b) {
#if defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpgt_ps(_mm_loadu_ps(a), _mm_loadu_ps(b))) |
                               _mm_movemask_ps(_mm_cmpgt_ps(_mm_loadu_ps(a + 4), _mm_loadu_ps(b + 4))) << 4);
#else
  unsigned mask = 0;
  for (int i = 0; i < 8; ++i) mask |= static_cast<unsigned>(a[i] > b[i]) << i;
  return mask;
#endif
}

// Moves the `best` highest of `count` keys to the front, unordered except that the last of them is the lowest.
void select(Key* keys, int64_t count, int64_t best) {
  std::nth_element(keys, keys + best - 1, keys + count, std::greater<Key>());
}

// Adds a score over the threshold of its class to the candidates; reduces them when there is no more room.
void add(const DetectionOutputOptions& o, const Scratch& s, int c, int prior, float score) {
  const int stride = static_cast<int>(stride_of(o)), candidates = o.candidates();
  Key* keys = s.keys + static_cast<int64_t>(c) * stride;
  if (s.count[c] == stride) {
    // Later scores have to beat the lowest that stays; an equal one would rank lower by its place.
    select(keys, stride, candidates);
    s.count[c] = candidates;
    s.threshold[c] = score_of(keys[candidates - 1]);
    if (!(score > s.threshold[c])) return;
  }
  keys[s.count[c]++] = score_key(score, static_cast<uint32_t>(c) * o.num_priors + prior);
}

// The candidates of each class: the top_k best scores over the threshold, and perhaps some more.
void gather(const DetectionOutputOptions& o, const float* conf, const Scratch& s) {
  const int classes = o.num_classes;
  const float never = std::numeric_limits<float>::infinity();
  std::fill_n(s.threshold, padded(classes), never);
  std::fill_n(s.threshold, classes, o.confidence_threshold);
  if (0 <= o.background_label_id && o.background_label_id < classes) s.threshold[o.background_label_id] = never;
  std::fill_n(s.count, classes, 0);
  // Few scores are candidates, at unpredictable places: eight comparisons share one branch.
  int prior = 0;
  for (; (prior + 1) * static_cast<int64_t>(classes) + kLanes <= o.num_priors * static_cast<int64_t>(classes);
       ++prior) {
    const float* scores = conf + prior * static_cast<int64_t>(classes);
    for (int first = 0; first < classes; first += kLanes) {
      unsigned over = greater_mask8(scores + first, s.threshold + first);
      for (int c = first; over != 0; over >>= 1, ++c) {
        if (over & 1) add(o, s, c, prior, scores[c]);
      }
    }
  }
  for (; prior < o.num_priors; ++prior) {  // the last rows, where eight numbers might end past the array
    const float* scores = conf + prior * static_cast<int64_t>(classes);
    for (int c = 0; c < classes; ++c) {
      if (scores[c] > s.threshold[c]) add(o, s, c, prior, scores[c]);
    }
  }
}

// Whether `box` overlaps one of the `count` kept boxes by more than `threshold`.
CAFFE_VECTORIZE
bool suppressed(const float* kept, int64_t room, int count, const Box& box, float box_area, float threshold) {
  const float *xmin = kept + room, *ymin = xmin + room, *xmax = ymin + room, *ymax = xmax + room, *areas = ymax + room;
  constexpr int kBlock = 16;  // pairs between two checks of the result: enough for the compiler to vectorize
  int k = 0;
  for (; k + kBlock <= count; k += kBlock) {
    int over = 0;
    for (int j = k; j < k + kBlock; ++j) {
      over |= !(overlap(box, box_area, {xmin[j], ymin[j], xmax[j], ymax[j]}, areas[j]) <= threshold);
    }
    if (over) return true;
  }
  for (; k < count; ++k) {
    if (!(overlap(box, box_area, {xmin[k], ymin[k], xmax[k], ymax[k]}, areas[k]) <= threshold)) return true;
  }
  return false;
}

// Whether its class keeps a candidate, after all better ones have been examined.
bool keep(const DetectionOutputOptions& o, Key key, const float* loc, const float* prior, const Scratch& s) {
  const uint32_t c = place_of(key) / static_cast<uint32_t>(o.num_priors);
  const int64_t p = place_of(key) - c * static_cast<uint32_t>(o.num_priors);
  if (s.seen[c] == o.candidates()) return false;
  ++s.seen[c];
  const float* code = loc + (o.share_location ? p : p * o.num_classes + c) * 4;
  const Box box = decode(o.code_type, o.variance_encoded_in_target, load_box(prior + p * 4),
                         load_box(prior + (o.num_priors + p) * 4), load_box(code));
  const float box_area = area(box);
  const int64_t room = room_of(o);
  float* kept = s.kept + c * 6 * room;
  if (suppressed(kept, room, s.num_kept[c], box, box_area, s.overlap[c])) return false;
  const float entry[6] = {score_of(key), box.xmin, box.ymin, box.xmax, box.ymax, box_area};
  for (int k = 0; k < 6; ++k) kept[k * room + s.num_kept[c]] = entry[k];
  ++s.num_kept[c];
  if (o.eta < 1.0f && s.overlap[c] > 0.5f) s.overlap[c] *= o.eta;
  return true;
}

// Greedy non-maximum suppression in all classes together, from the best score down. So it can end when keep_top_k
// boxes are kept: no later one would be among the best. Usually that is long before the candidates run out, and few
// have to be sorted or decoded.
void suppress(const DetectionOutputOptions& o, const float* loc, const float* prior, const Scratch& s) {
  Key* next = s.pool;
  Key* end = s.pool;
  for (int c = 0; c < o.num_classes; ++c) end = std::copy_n(s.keys + c * stride_of(o), s.count[c], end);
  std::fill_n(s.overlap, o.num_classes, o.nms_threshold);
  std::fill_n(s.seen, o.num_classes, 0);
  std::fill_n(s.num_kept, o.num_classes, 0);
  const int64_t limit = o.capacity();
  int64_t batch = o.keep_top_k < 0 ? end - next : std::max<int64_t>(64, 2 * limit);
  int64_t kept = 0;
  while (next < end && kept < limit) {
    Key* stop = next + std::min<int64_t>(batch, end - next);
    if (stop < end) select(next, end - next, batch);
    std::sort(next, stop, std::greater<Key>());
    for (; next < stop && kept < limit; ++next) kept += keep(o, *next, loc, prior, s);
    batch *= 2;
  }
}

int32_t write(const DetectionOutputOptions& o, int64_t image, const Scratch& s, float* rows) {
  const int64_t room = room_of(o), capacity = o.capacity();
  float* row = rows + image * capacity * 7;
  int32_t count = 0;
  for (int c = 0; c < o.num_classes; ++c) {
    const float* kept = s.kept + c * 6 * room;
    for (int i = 0; i < s.num_kept[c]; ++i, row += 7, ++count) {
      row[0] = static_cast<float>(image);
      row[1] = static_cast<float>(c);
      for (int k = 0; k < 5; ++k) row[2 + k] = kept[k * room + i];
    }
  }
  for (int64_t i = count; i < capacity; ++i, row += 7) {
    row[0] = static_cast<float>(image);
    std::fill_n(row + 1, 6, -1.0f);
  }
  return count;
}

}  // namespace

int64_t detection_output_workspace_bytes_cpu(const DetectionOutputOptions& o, int threads) {
  return scratch_bytes(o) * useful_threads(o, threads);
}

void detection_output_cpu(const DetectionOutputOptions& o, const float* loc, const float* conf, const float* prior,
                          float* rows, int32_t* counts, void* workspace, int threads) {
  const int64_t scores = static_cast<int64_t>(o.num_priors) * o.num_classes;
  const int64_t codes = static_cast<int64_t>(o.num_priors) * (o.share_location ? 1 : o.num_classes) * 4;
  // Images differ in how many boxes they hold.
  for_each_in_turn(o.num, useful_threads(o, threads), [&](int64_t image, int slot) {
    Arena arena(static_cast<char*>(workspace) + slot * scratch_bytes(o));
    const Scratch s = scratch_in(o, &arena);
    std::fill_n(s.num_kept, o.num_classes, 0);
    if (o.capacity() > 0) {
      gather(o, conf + image * scores, s);
      suppress(o, loc + image * codes, prior, s);
    }
    counts[image] = write(o, image, s, rows);
  });
}

}  // namespace caffe
