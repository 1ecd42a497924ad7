// Stands in for CUDA's runtime, so that the kernels of cuda/ run on a CPU, one block after another, as tests.
//
// Every thread of a block is a fiber; barriers and warp shuffles hand over to the next one. Fibers run in an order
// drawn from `emulated::seed`, so a missing barrier or a result that depends on the order of threads shows as a
// difference between seeds. A barrier that only some of a block's threads reach ends the process with a message.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>

#define __CUDACC__ 13
#define __host__
#define __device__
#define __global__
#define __constant__ const
#define __shared__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using uint3 = dim3;

using cudaStream_t = struct EmulatedStream*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorNotSupported = 801 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };

namespace emulated {

enum class Wait { NONE, BLOCK, WARP };

extern dim3 thread_index, block_index, block_size, grid_size;
extern uint64_t seed;
extern cudaError_t last_error;

// Runs `kernel` for every thread of every block.
void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);
char* dynamic_shared();
// Hands over until every thread of the block (or warp) waits likewise.
void wait(Wait what);
// Room for one value of each lane of this thread's warp.
uint64_t* lanes();
unsigned lane();
// Whether that lane takes part (has not returned from the kernel).
bool lane_lives(unsigned lane);

template <typename T>
T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  memcpy(&lanes()[lane()], &value, sizeof value);
  wait(Wait::WARP);
  T result = value;
  if (from < 32 && lane_lives(from)) memcpy(&result, &lanes()[from], sizeof result);
  wait(Wait::WARP);
  return result;
}

}  // namespace emulated

#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size
constexpr int warpSize = 32;

inline void __syncthreads() { emulated::wait(emulated::Wait::BLOCK); }
inline void __syncwarp(unsigned = ~0u) { emulated::wait(emulated::Wait::WARP); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned, T value, int from, int = 32) {
  return emulated::exchange(value, static_cast<unsigned>(from) % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  return emulated::exchange(value, emulated::lane() ^ static_cast<unsigned>(mask));
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned by, int = 32) {
  return emulated::exchange(value, emulated::lane() + by);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned by, int = 32) {
  return emulated::exchange(value, emulated::lane() - by);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned result = 0;
  emulated::lanes()[emulated::lane()] = predicate != 0;
  emulated::wait(emulated::Wait::WARP);
  for (unsigned i = 0; i < 32; ++i) {
    if (emulated::lane_lives(i) && emulated::lanes()[i] != 0) result |= 1u << i;
  }
  emulated::wait(emulated::Wait::WARP);
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline int __syncthreads_or(int predicate) {
  static int result;
  emulated::wait(emulated::Wait::BLOCK);
  result = 0;
  emulated::wait(emulated::Wait::BLOCK);
  result |= predicate != 0;
  emulated::wait(emulated::Wait::BLOCK);
  return result;
}
inline int __syncthreads_count(int predicate) {
  static int result;
  emulated::wait(emulated::Wait::BLOCK);
  result = 0;
  emulated::wait(emulated::Wait::BLOCK);
  result += predicate != 0;
  emulated::wait(emulated::Wait::BLOCK);
  return result;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __float_as_int(float x) {
  int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(__float_as_int(x)); }
inline float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
template <typename T>
T __ldg(const T* p) {
  return *p;
}

// Fibers change only at barriers, so plain arithmetic is atomic.
template <typename T>
T atomicAdd(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = old + x;
  return old;
}
template <typename T>
T atomicSub(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = old - x;
  return old;
}
template <typename T>
T atomicMax(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = std::max<T>(old, x);
  return old;
}
template <typename T>
T atomicMin(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = std::min<T>(old, x);
  return old;
}
template <typename T>
T atomicOr(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = old | x;
  return old;
}
template <typename T>
T atomicAnd(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = old & x;
  return old;
}
template <typename T>
T atomicExch(T* p, std::common_type_t<T> x) {
  const T old = *p;
  *p = x;
  return old;
}
template <typename T>
T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> x) {
  const T old = *p;
  if (old == compare) *p = x;
  return old;
}

using std::max;
using std::min;

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return error;
}
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid configuration argument";
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t = nullptr) {
  memset(p, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t = nullptr) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}
