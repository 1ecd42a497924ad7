// Sums, maxima and places over the threads of a warp or a block, the same whatever order threads run in.
//
// Every thread of the warp, or of a block of `threads` threads in one dimension (whole warps), must call them; each may
// be called again right away.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace caffe {

constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The number of blocks that cover `count` items, `each` items per block.
inline unsigned blocks_for(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

// The values of all lanes put together by `combine` (associative and commutative) in a fixed order, in every lane.
template <typename T, typename Combine>
__device__ T warp_reduce(T value, const Combine& combine) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// The values of all threads put together by `combine` (associative and commutative) in a fixed order, in every thread.
template <unsigned threads, typename T, typename Combine>
__device__ T block_reduce(T value, const Combine& combine) {
  __shared__ T parts[threads / kWarp];
  value = warp_reduce(value, combine);
  __syncthreads();  // a previous call's parts have been read
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = parts[0];
  for (unsigned i = 1; i < threads / kWarp; ++i) result = combine(result, parts[i]);
  return result;
}

template <typename T>
struct Plus {
  __device__ T operator()(T a, T b) const { return a + b; }
};

template <typename T>
struct Greater {
  __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};

template <typename T>
__device__ T warp_sum(T value) {
  return warp_reduce(value, Plus<T>());
}

template <typename T>
__device__ T warp_max(T value) {
  return warp_reduce(value, Greater<T>());
}

template <unsigned threads, typename T>
__device__ T block_sum(T value) {
  return block_reduce<threads>(value, Plus<T>());
}

template <unsigned threads, typename T>
__device__ T block_max(T value) {
  return block_reduce<threads>(value, Greater<T>());
}

// The sum of the values of earlier threads; `total`: that of all threads.
template <unsigned threads, typename T>
__device__ T block_scan(T value, T* total) {
  __shared__ T parts[threads / kWarp];
  const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  T sum = value;  // of the lanes up to this one
  for (unsigned step = 1; step < kWarp; step *= 2) {
    const T lower = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += lower;
  }
  __syncthreads();  // a previous call's parts have been read
  if (lane == kWarp - 1) parts[warp] = sum;
  __syncthreads();
  T before = sum - value;
  *total = 0;
  for (unsigned i = 0; i < threads / kWarp; ++i) {
    if (i < warp) before += parts[i];
    *total += parts[i];
  }
  return before;
}

// The number of earlier threads that have the flag set; `count`: that of all threads.
template <unsigned threads>
__device__ int block_place(bool flag, int* count) {
  __shared__ int parts[threads / kWarp];
  const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const unsigned flags = __ballot_sync(kAllLanes, flag);
  __syncthreads();  // a previous call's parts have been read
  if (lane == 0) parts[warp] = __popc(flags);
  __syncthreads();
  int place = __popc(flags & ((1u << lane) - 1));
  *count = 0;
  for (unsigned i = 0; i < threads / kWarp; ++i) {
    if (i < warp) place += parts[i];
    *count += parts[i];
  }
  return place;
}

}  // namespace caffe
