#include "mining.h"

#include <algorithm>

#include "box.h"

namespace caffe {
namespace {

bool greater(const Candidate& a, const Candidate& b) { return a.key > b.key; }

}  // namespace

int64_t keep_possible(const float* bounds, float slack, int32_t* index, int64_t count, int64_t wanted) {
  // The `wanted` boxes with the greatest bounds have losses of at least the smallest of these bounds, less the slack.
  // A box whose bound is lower than that cannot be among the greatest. The smallest bound is rounded down to a bin.
  constexpr int kBins = 2816;
  constexpr float kBinsPerUnit = 32.0f;  // a softmax loss is at most 87.4
  int32_t histogram[kBins] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float bound = bounds[index[i]];
    if (bound == bound) ++histogram[std::clamp(static_cast<int>(bound * kBinsPerUnit), 0, kBins - 1)];
  }
  int bin = kBins;
  for (int64_t above = 0; above < wanted && bin > 0;) above += histogram[--bin];
  const float least = static_cast<float>(bin) / kBinsPerUnit - slack;
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t box = index[i];
    index[kept] = box;
    kept += !(bounds[box] < least);
  }
  return kept;
}

void choose_greatest(Candidate* candidates, int64_t count, int64_t wanted) {
  if (wanted <= 0 || wanted >= count) return;
  // Most candidates are far from being chosen: a count by the upper bits of the key says which may be, and only these
  // are put in order.
  constexpr int kBins = 4096, kShift = 52;
  int32_t histogram[kBins] = {};
  for (int64_t i = 0; i < count; ++i) ++histogram[candidates[i].key >> kShift];
  uint64_t least = kBins - 1;
  for (int64_t above = histogram[least]; above < wanted; above += histogram[least]) --least;
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    candidates[kept] = candidates[i];
    kept += candidates[i].key >> kShift >= least;
  }
  std::nth_element(candidates, candidates + wanted, candidates + kept, greater);
}

int64_t choose_suppressed(Candidate* candidates, int64_t count, int64_t wanted, const float* boxes, float threshold,
                          int top_k) {
  const int64_t considered = top_k < 0 ? count : std::min<int64_t>(count, top_k);
  std::partial_sort(candidates, candidates + considered, candidates + count, greater);
  int64_t kept = 0;
  for (int64_t i = 0; i < considered && kept < wanted; ++i) {
    const Box box = load_box(boxes + 4 * static_cast<int64_t>(candidates[i].index()));
    const float size = area(box);
    if (static_cast<double>(size) < 1e-5) continue;
    bool keep = true;
    for (int64_t k = 0; k < kept && keep; ++k) {
      const Box other = load_box(boxes + 4 * static_cast<int64_t>(candidates[k].index()));
      keep = !(overlap(other, area(other), box, size) > threshold);
    }
    if (keep) candidates[kept++] = candidates[i];
  }
  return kept;
}

}  // namespace caffe
