// Mining on the GPU; layers/mining.h and layers/multibox_loss.cpp describe its decisions.
#pragma once

#include "matching.cuh"

namespace caffe {

constexpr int kSelectThreads = 1024;

// One thread per box of a unit: gives free boxes their best ground truth, turns matches into label rows, counts them,
// and ranks the box for mining. Boxes that are left out because they cross the boundary stay marked until mining has processed them.
__global__ void finish_matches(DeviceBatch b) {
  const MultiBoxLossOptions& o = b.options;
  const int64_t unit = blockIdx.y;
  const int64_t image = unit / b.classes();
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const bool exists = p < b.sizes.priors;
  int32_t row = kUnmatched;
  if (exists) {
    const int64_t at = b.at(unit, p);
    const float best = b.best_overlap[at];
    int32_t m = b.match[at];
    if (m == kUnmatched && o.match_type == MatchType::PER_PREDICTION && best >= o.overlap_threshold)
      m = b.best_truth[at];
    row = m >= 0 ? b.truth_row[m] : m;
    if (row >= 0 && !b.has_location(row)) row = kNotChosen;
    uint32_t rank = 0;
    if (b.first[image + 1] > b.first[image]) {
      const float* scores = b.scores(image, p);
      if (o.mining_type == MiningType::MAX_NEGATIVE && row == kUnmatched && best < o.neg_overlap) {
        rank = rank_of(confidence_loss(o.conf_loss_type, scores, o.num_classes, o.background_label_id));
      } else if (o.mining_type == MiningType::HARD_EXAMPLE) {
        float loss = confidence_loss(o.conf_loss_type, scores, o.num_classes, b.target(row));
        if (row >= 0) loss += location_loss(o.loc_loss_type, b.error(image, p, 0, row));
        rank = rank_of(loss);
      }
    }
    if (o.mining_type != MiningType::NONE) {
      b.rank[at] = rank;
    } else if (row == kIgnored) {
      row = kNotChosen;
    }
    b.match[at] = row;
  }
  const int positives = __syncthreads_count(row >= 0);
  if (threadIdx.x == 0 && positives > 0) atomicAdd(&b.positives[unit], positives);
}

// The number of boxes of an image that mining chooses.
__device__ inline int64_t wanted_of(const DeviceBatch& b, int64_t image) {
  if (b.options.mining_type == MiningType::HARD_EXAMPLE) return min(int64_t{b.options.sample_size}, b.sizes.priors);
  return negatives_wanted(b.options, b.positives[image], b.sizes.priors);
}

// One block per image: finds the least rank that is chosen, a byte at a time from the top; of the boxes of that rank
// the lower ones are chosen.
__global__ void choose_examples(DeviceBatch b) {
  __shared__ int histogram[256];
  __shared__ uint32_t least;
  __shared__ int64_t left;  // to be chosen among those of rank `least`
  const int64_t image = blockIdx.x;
  const int64_t priors = b.sizes.priors;
  const uint32_t* rank = b.rank + b.at(image, 0);
  const int64_t wanted = wanted_of(b, image);
  if (threadIdx.x == 0) {
    least = 0;
    left = wanted;
  }
  __syncthreads();
  for (int shift = wanted > 0 ? 24 : -1; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) histogram[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t p = threadIdx.x; p < priors; p += kSelectThreads) {
      if (shift == 24 || rank[p] >> (shift + 8) == least >> (shift + 8))
        atomicAdd(&histogram[rank[p] >> shift & 255], 1);
    }
    __syncthreads();
    // Each of the first threads sums the bins above its own: one of them has the bin in which `left` is reached.
    const uint32_t bin = 255 - threadIdx.x;
    const int mine = threadIdx.x < 256 ? histogram[bin] : 0;
    const int64_t rest = left;
    int all;
    const int above = block_scan<kSelectThreads>(mine, &all);
    if (above < rest && rest <= above + mine) {
      least |= bin << shift;
      left = rest - above;
    }
    __syncthreads();
  }
  int64_t passed = 0;  // boxes of rank `least` so far
  for (int64_t base = 0; base < priors; base += kSelectThreads) {
    const int64_t p = base + threadIdx.x;
    const uint32_t mine = p < priors ? rank[p] : 0;
    int count;
    const int place = block_place<kSelectThreads>(mine == least, &count);
    const bool chosen = wanted > 0 && mine != 0 && (mine > least || (mine == least && passed + place < left));
    passed += count;
    if (p < priors) {
      int32_t& match = b.match[b.at(image, p)];
      if (match == kIgnored) {
        match = kNotChosen;
      } else if (match >= 0) {
        if (b.options.mining_type == MiningType::HARD_EXAMPLE && !chosen) match = kNotChosen;
      } else if (chosen) {
        match = kNegative;
      }
    }
  }
}

}  // namespace caffe
