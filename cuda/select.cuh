// Selecting and sorting 64-bit keys (layers/score_key.h) by all threads of a block, which is `threads` wide.
#pragma once

#include "block.cuh"
#include "score_key.h"

namespace caffe {

using Key = uint64_t;

// Calls `take` once for each of `n` < 2^32 keys. A thread has up to eight loads in flight before it takes the first of
// them.
template <unsigned threads, typename Take>
__device__ void for_each_key(const Key* keys, int64_t n, const Take& take) {
  constexpr int kLoads = 8;
  for (int64_t first = threadIdx.x; first < n; first += kLoads * threads) {
    const uint32_t left = static_cast<uint32_t>(n - first);
    Key loaded[kLoads];
#pragma unroll
    for (unsigned k = 0; k < kLoads; ++k) loaded[k] = k * threads < left ? keys[first + k * threads] : 0;
#pragma unroll
    for (unsigned k = 0; k < kLoads; ++k) {
      if (k * threads < left) take(loaded[k]);
    }
  }
}

// A key so that exactly `best` of the `n` distinct keys are not below it, 0 < best < n < 2^32. Eight bits per pass,
// from the highest. That many keys share their first digits costs little: from compute capability 8.0, one instruction
// counts equal digits of a warp together.
template <unsigned threads>
__device__ Key cut_of(const Key* keys, int64_t n, uint32_t best) {
  constexpr unsigned kDigits = 256;
  static_assert(threads >= kDigits, "one thread per digit");
  __shared__ uint32_t histogram[kDigits];
  __shared__ uint32_t shared_digit, shared_rest;
  __shared__ bool shared_done;
  const unsigned digit = kDigits - 1 - threadIdx.x;  // of the first threads: they take the digits from the highest down
  Key prefix = 0, mask = 0;
  uint32_t rest = best;  // how many of the keys that start with the prefix to take
  if (threadIdx.x < kDigits) histogram[digit] = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    __syncthreads();
    for_each_key<threads>(keys, n, [&](Key key) {
      if ((key & mask) == prefix) atomicAdd(&histogram[(key >> shift) & (kDigits - 1)], 1u);
    });
    __syncthreads();
    uint32_t mine = 0;
    if (threadIdx.x < kDigits) {
      mine = histogram[digit];
      histogram[digit] = 0;
    }
    uint32_t total;
    const uint32_t above = block_scan<threads>(mine, &total);
    if (above < rest && rest - above <= mine) {
      shared_digit = digit;
      shared_rest = rest - above;
      shared_done = rest - above == mine;
    }
    __syncthreads();
    prefix |= static_cast<Key>(shared_digit) << shift;
    mask |= Key{kDigits - 1} << shift;
    rest = shared_rest;
    if (shared_done) break;
  }
  return prefix;
}

// The smallest power of two that is at least `n`: bitonic sort needs lists of such lengths.
CAFFE_HOST_DEVICE int padded(int n) {
  int size = 1;
  while (size < n) size *= 2;
  return size;
}

// Sorts `size` keys, a power of two, highest first. Bitonic.
template <unsigned threads>
__device__ void sort_descending(Key* keys, int size) {
  constexpr int kReach = kWarp;  // up to this step, the pairs of a warp are among 64 keys that no other warp touches
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = threadIdx.x; i < size / 2; i += threads) {
        const int low = 2 * i - (i & (step - 1)), high = low + step;
        const Key a = keys[low], b = keys[high];
        const bool descending = (low & run) == 0;
        if ((a < b) == descending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      const int next_step = step > 1 ? step / 2 : run;
      if (step > kReach || next_step > kReach) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  __syncthreads();
}

}  // namespace caffe
