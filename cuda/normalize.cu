#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "block.cuh"
#include "normalize.h"

namespace caffe {
namespace {

constexpr unsigned kRows = 8;                 // of a block of kWarp x kRows threads
constexpr unsigned kThreads = kWarp * kRows;  // of a block in one dimension
constexpr unsigned kItemThreads = 1024;       // of a block that sums a whole item

// The hardware's conversions, in addition to those of layers/scalar.h.
using caffe::narrow;
using caffe::widen;
__device__ float widen(__half x) { return __half2float(x); }
__device__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void narrow(float x, __half* to) { *to = __float2half_rn(x); }
__device__ void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

template <typename T>
struct Arguments {
  using A = typename Wide<T>::type;
  int64_t channels, positions, groups;
  bool channels_last, channel_shared;
  A eps;
  const T* __restrict__ x;
  const T* __restrict__ dy;  // null: forward
  const A* __restrict__ scale;
  A* __restrict__ norm;  // written by forward, read by backward
  T* __restrict__ out;   // y or dx

  // What a group is summed over: squares, or products with the gradient.
  __device__ A term(int64_t i) const { return widen(x[i]) * widen(dy != nullptr ? dy[i] : x[i]); }

  // What `write` needs, from a group's sum: the inverse of the norm and the share of x that dx loses.
  __device__ void finish(int64_t group, A sum, bool writer, A* inverse, A* share) const {
    if (dy != nullptr) {
      *inverse = A(1) / norm[group];
      *share = sum * *inverse * *inverse;
    } else {
      const A root = sqrt(sum + eps);
      if (writer) norm[group] = root;
      *inverse = A(1) / root;
      *share = A(0);
    }
  }

  __device__ void write(int64_t i, int64_t channel, A inverse, A share) const {
    const A s = scale[channel_shared ? 0 : channel];
    const A from = dy != nullptr ? widen(dy[i]) - widen(x[i]) * share : widen(x[i]);
    narrow(from * inverse * s, out + i);
  }
};

// across_spatial: one block per item.
template <typename T>
__global__ void item_kernel(Arguments<T> a) {
  using A = typename Wide<T>::type;
  const int64_t size = a.channels * a.positions, first = blockIdx.x * size;
  A sum = 0, inverse, share;
  for (int64_t i = threadIdx.x; i < size; i += kItemThreads) sum += a.term(first + i);
  sum = block_sum<kItemThreads>(sum);
  a.finish(blockIdx.x, sum, threadIdx.x == 0, &inverse, &share);
  for (int64_t i = threadIdx.x; i < size; i += kItemThreads) {
    a.write(first + i, a.channels_last ? i % a.channels : i / a.positions, inverse, share);
  }
}

// Channels of a position adjacent: one warp per position.
template <typename T>
__global__ void position_kernel(Arguments<T> a) {
  using A = typename Wide<T>::type;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.y;
  if (group >= a.groups) return;
  const int64_t first = group * a.channels;
  A sum = 0, inverse, share;
  for (int64_t c = threadIdx.x; c < a.channels; c += kWarp) sum += a.term(first + c);
  sum = warp_sum(sum);
  a.finish(group, sum, threadIdx.x == 0, &inverse, &share);
  for (int64_t c = threadIdx.x; c < a.channels; c += kWarp) a.write(first + c, c, inverse, share);
}

// Positions of a channel adjacent: a block takes kWarp positions, and its rows divide the channels.
template <typename T>
__global__ void column_kernel(Arguments<T> a) {
  using A = typename Wide<T>::type;
  __shared__ A parts[kRows][kWarp];
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  const bool inside = group < a.groups;
  const int64_t first = inside ? group / a.positions * a.channels * a.positions + group % a.positions : 0;
  A sum = 0, inverse, share;
  if (inside) {
    for (int64_t c = threadIdx.y; c < a.channels; c += kRows) sum += a.term(first + c * a.positions);
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (!inside) return;
  sum = 0;
  for (unsigned row = 0; row < kRows; ++row) sum += parts[row][threadIdx.x];
  a.finish(group, sum, threadIdx.y == 0, &inverse, &share);
  for (int64_t c = threadIdx.y; c < a.channels; c += kRows) a.write(first + c * a.positions, c, inverse, share);
}

// ---- dscale: one sum for each channel and slice of the positions of all items, then a sum over the slices

struct Slices {
  int64_t positions_of_all;  // items x positions
  int64_t count;
  bool across_spatial;

  __device__ int64_t begin(int64_t slice) const { return positions_of_all * slice / count; }
};

// Positions of a channel adjacent: one block per channel and slice.
template <typename T>
__global__ void scale_column_kernel(Arguments<T> a, Slices slices, double* sums) {
  const int64_t channel = blockIdx.x, slice = blockIdx.y;
  double sum = 0;
  for (int64_t q = slices.begin(slice) + threadIdx.x; q < slices.begin(slice + 1); q += kThreads) {
    const int64_t item = q / a.positions;
    const int64_t i = (item * a.channels + channel) * a.positions + q % a.positions;
    sum += a.term(i) / a.norm[slices.across_spatial ? item : q];
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) sums[slice * a.channels + channel] = sum;
}

// Channels of a position adjacent: a block takes kWarp channels of a slice, and its rows divide the positions.
template <typename T>
__global__ void scale_position_kernel(Arguments<T> a, Slices slices, double* sums) {
  __shared__ double parts[kRows][kWarp];
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x, slice = blockIdx.y;
  double sum = 0;
  if (channel < a.channels) {
    for (int64_t q = slices.begin(slice) + threadIdx.y; q < slices.begin(slice + 1); q += kRows) {
      sum += a.term(q * a.channels + channel) / a.norm[slices.across_spatial ? q / a.positions : q];
    }
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= a.channels) return;
  for (unsigned row = 1; row < kRows; ++row) sum += parts[row][threadIdx.x];
  sums[slice * a.channels + channel] = sum;
}

// One block: one thread per channel, or all of them for the one scale.
template <typename A>
__global__ void scale_total_kernel(const double* sums, int64_t channels, int64_t slices, bool shared, A* dscale) {
  double total = 0;
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    double sum = 0;
    for (int64_t slice = 0; slice < slices; ++slice) sum += sums[slice * channels + c];
    if (!shared) dscale[c] = static_cast<A>(sum);
    total += sum;
  }
  total = block_sum<kThreads>(total);
  if (shared && threadIdx.x == 0) dscale[0] = static_cast<A>(total);
}

// y from x, or dx from x and dy.
template <typename T>
cudaError_t launch(const NormalizeShape& shape, const Arguments<T>& a, cudaStream_t stream) {
  if (a.groups == 0) return cudaSuccess;
  const dim3 tile(kWarp, kRows);
  if (shape.across_spatial) {
    item_kernel<<<blocks_for(a.groups, 1), kItemThreads, 0, stream>>>(a);
  } else if (shape.channels_last) {
    position_kernel<<<blocks_for(a.groups, kRows), tile, 0, stream>>>(a);
  } else {
    column_kernel<<<blocks_for(a.groups, kWarp), tile, 0, stream>>>(a);
  }
  return cudaGetLastError();
}

template <typename T>
Arguments<T> arguments(const NormalizeShape& shape, const void* x, const void* dy, const void* scale, void* norm,
                       void* out) {
  using A = typename Wide<T>::type;
  return {shape.channels,           shape.positions,           shape.norms(),
          shape.channels_last,      shape.channel_shared,      static_cast<A>(shape.eps),
          static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<const A*>(scale),
          static_cast<A*>(norm),    static_cast<T*>(out)};
}

template <typename T>
cudaError_t forward(const NormalizeShape& shape, const void* x, const void* scale, void* y, void* norm,
                    cudaStream_t stream) {
  return launch(shape, arguments<T>(shape, x, nullptr, scale, norm, y), stream);
}

template <typename T>
cudaError_t backward(const NormalizeShape& shape, const void* x, const void* dy, const void* scale, const void* norm,
                     void* dx, void* dscale, void* workspace, cudaStream_t stream) {
  const Arguments<T> a = arguments<T>(shape, x, dy, scale, const_cast<void*>(norm), dx);
  cudaError_t status = launch(shape, a, stream);
  if (status != cudaSuccess) return status;

  const int64_t slice_count = normalize_scale_slices(shape);
  const Slices slices{shape.items * shape.positions, slice_count, shape.across_spatial};
  double* const sums = static_cast<double*>(workspace);
  if (shape.channels > 0) {
    if (shape.channels_last) {
      const dim3 grid(blocks_for(shape.channels, kWarp), static_cast<unsigned>(slice_count));
      scale_position_kernel<<<grid, dim3(kWarp, kRows), 0, stream>>>(a, slices, sums);
    } else {
      const dim3 grid(static_cast<unsigned>(shape.channels), static_cast<unsigned>(slice_count));
      scale_column_kernel<<<grid, kThreads, 0, stream>>>(a, slices, sums);
    }
    status = cudaGetLastError();
    if (status != cudaSuccess) return status;
  }
  scale_total_kernel<<<1, kThreads, 0, stream>>>(sums, shape.channels, slice_count, shape.channel_shared,
                                                 static_cast<typename Wide<T>::type*>(dscale));
  return cudaGetLastError();
}

}  // namespace

int normalize_forward_cuda(Scalar type, const NormalizeShape& shape, const void* x, const void* scale, void* y,
                           void* norm, void* stream) {
  const auto run = type == Scalar::FLOAT32   ? forward<float>
                   : type == Scalar::FLOAT64 ? forward<double>
                   : type == Scalar::FLOAT16 ? forward<__half>
                                             : forward<__nv_bfloat16>;
  return run(shape, x, scale, y, norm, static_cast<cudaStream_t>(stream));
}

int normalize_backward_cuda(Scalar type, const NormalizeShape& shape, const void* x, const void* dy, const void* scale,
                            const void* norm, void* dx, void* dscale, void* workspace, void* stream) {
  const auto run = type == Scalar::FLOAT32   ? backward<float>
                   : type == Scalar::FLOAT64 ? backward<double>
                   : type == Scalar::FLOAT16 ? backward<__half>
                                             : backward<__nv_bfloat16>;
  return run(shape, x, dy, scale, norm, dx, dscale, workspace, static_cast<cudaStream_t>(stream));
}

}  // namespace caffe
