#include <cuda_runtime.h>

#include "block.cuh"
#include "prior_box.h"

namespace caffe {
namespace {

constexpr int kThreads = 256;

__global__ void prior_box_kernel(PriorBoxGrid grid, const float* __restrict__ sizes, int num_sizes, int64_t boxes,
                                 float* __restrict__ priors) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= boxes) return;
  const int s = static_cast<int>(i % num_sizes);
  const int64_t cell = i / num_sizes;
  const int row = static_cast<int>(cell / grid.layer_width), column = static_cast<int>(cell % grid.layer_width);
  store_box(prior_box_at(grid, row, column, sizes[2 * s], sizes[2 * s + 1]), priors + 4 * i);
  for (int k = 0; k < 4; ++k) priors[4 * (boxes + i) + k] = grid.variance[k];
}

}  // namespace

int prior_box_cuda(const PriorBoxGrid& grid, const float* sizes, int num_sizes, float* priors, void* stream) {
  const int64_t boxes = static_cast<int64_t>(grid.layer_height) * grid.layer_width * num_sizes;
  if (boxes == 0) return cudaSuccess;
  prior_box_kernel<<<blocks_for(boxes, kThreads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      grid, sizes, num_sizes, boxes, priors);
  return cudaGetLastError();
}

}  // namespace caffe
