// Matching on the GPU; layers/matching.h describes its decisions.
#pragma once

#include "block.cuh"
#include "multibox_batch.cuh"

namespace caffe {

constexpr int kThreads = 256;      // of a block with one prior per thread
constexpr int kWideThreads = 512;  // of a block that works on a whole unit

// One block per image: gathers the label rows that count, in their order.
__global__ void group_truths(DeviceBatch b) {
  const int image = blockIdx.x;
  const int rows = static_cast<int>(b.sizes.labels);
  const int thread = threadIdx.x;
  const auto image_of = [&](int row) {
    const float* r = b.label_row(row);
    if (!(r[0] >= 0.0f && r[0] < static_cast<float>(b.sizes.images))) return -1;
    const bool is_class =
        b.options.map_object_to_agnostic || (r[1] >= 0.0f && r[1] < static_cast<float>(b.options.num_classes));
    if (!is_class || r[1] == static_cast<float>(b.options.background_label_id)) {
      *b.bad_label = 1;
      return -1;
    }
    return b.options.use_difficult_gt || r[7] == 0.0f ? static_cast<int>(r[0]) : -1;
  };

  int before = 0;  // rows of earlier images
  for (int row = thread; row < rows; row += kThreads) {
    const int other = image_of(row);
    before += other >= 0 && other < image;
  }
  int begin = block_sum<kThreads>(before);
  if (thread == 0) b.first[image] = begin;
  for (int base = 0; base < rows; base += kThreads) {
    const int row = base + thread;
    const bool mine = row < rows && image_of(row) == image;
    int found;
    const int place = block_place<kThreads>(mine, &found);
    if (mine) {
      const int32_t t = begin + place;
      b.truth_row[t] = row;
      b.truth[t] = load_box(b.label_row(row) + 3);
      b.truth_area[t] = area(b.truth[t]);
      b.truth_best[t] = 0;
    }
    begin += found;
  }
  if (thread == 0 && image == b.sizes.images - 1) b.first[image + 1] = begin;
}

__global__ void decode_predictions(DeviceBatch b) {
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t unit = blockIdx.y;
  if (p < b.sizes.priors) b.decoded[b.at(unit, p)] = b.predicted_box(unit / b.classes(), p, unit % b.classes());
}

// One thread per box: its best ground truth, and its bid to be each ground truth's best box.
__global__ void meet_truths(DeviceBatch b) {
  constexpr int kTile = 128;
  __shared__ Box truth[kTile];
  __shared__ float truth_area[kTile];
  __shared__ bool belongs[kTile];
  const int64_t unit = blockIdx.y;
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t image = unit / b.classes();
  const int32_t first = b.first[image], last = b.first[image + 1];

  const bool exists = p < b.sizes.priors;
  Box box = exists ? b.box(unit, p) : Box{0.0f, 0.0f, 0.0f, 0.0f};  // an empty box overlaps nothing
  const bool ignored = exists && b.options.ignore_cross_boundary_bbox && crosses_boundary(box);
  if (ignored) box = {0.0f, 0.0f, 0.0f, 0.0f};
  const float box_area = area(box);
  float best = 0.0f;
  int32_t best_truth = kUnmatched;
  for (int32_t base = first; base < last; base += kTile) {
    const int count = min(kTile, last - base);
    __syncthreads();
    if (threadIdx.x < count) {
      const int32_t t = base + threadIdx.x;
      truth[threadIdx.x] = b.truth[t];
      truth_area[threadIdx.x] = b.truth_area[t];
      belongs[threadIdx.x] = b.belongs(t, unit);
    }
    __syncthreads();
    for (int i = 0; i < count; ++i) {
      if (!belongs[i]) continue;
      const float value = overlap(box, box_area, truth[i], truth_area[i]);
      const bool counts = value > kLeastOverlap;
      if (counts && value > best) {
        best = value;
        best_truth = base + i;
      }
      if (!__any_sync(kAllLanes, counts)) continue;
      unsigned long long bid = counts ? first_largest(value, static_cast<int32_t>(p)) : 0;
      bid = warp_max(bid);
      if (threadIdx.x % kWarp == 0) atomicMax(&b.truth_best[base + i], bid);
    }
  }
  if (!exists) return;
  b.best_overlap[b.at(unit, p)] = best;
  b.best_truth[b.at(unit, p)] = best_truth;
  b.match[b.at(unit, p)] = ignored ? kIgnored : kUnmatched;
}

// One block per unit: the pair of largest overlap becomes a match, again and again. As on the CPU, a ground truth's
// best box is looked for again only when it comes to the front with a box that was taken meanwhile.
__global__ void match_bipartite(DeviceBatch b) {
  const int64_t unit = blockIdx.x;
  const int64_t image = unit / b.classes();
  const int32_t first = b.first[image], last = b.first[image + 1];
  int32_t* match = b.match + b.at(unit, 0);
  for (;;) {
    unsigned long long key = 0;
    for (int32_t t = first + threadIdx.x; t < last; t += kWideThreads) {
      const unsigned long long best = b.truth_best[t];
      if (best != 0 && b.belongs(t, unit)) key = max(key, with_index(best, t));
    }
    key = block_max<kWideThreads>(key);
    if (key == 0) return;
    const int32_t front = index_of(key);
    const int32_t wanted = index_of(b.truth_best[front]);
    const bool is_free = match[wanted] == kUnmatched;
    __syncthreads();  // all threads have read before one writes
    unsigned long long next = 0;
    if (!is_free) {
      const Box truth = b.truth[front];
      const float truth_area = b.truth_area[front];
      for (int64_t p = threadIdx.x; p < b.sizes.priors; p += kWideThreads) {
        if (match[p] != kUnmatched) continue;
        const Box box = b.box(unit, p);
        const float value = overlap(box, area(box), truth, truth_area);
        if (value > kLeastOverlap) next = max(next, first_largest(value, static_cast<int32_t>(p)));
      }
      next = block_max<kWideThreads>(next);
    }
    if (threadIdx.x == 0) {
      b.truth_best[front] = next;
      if (is_free) match[wanted] = front;
    }
    __syncthreads();
  }
}

}  // namespace caffe
