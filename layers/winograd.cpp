#include "winograd.h"

#include <algorithm>

#include "parallel.h"
#include "winograd_kernels.h"

namespace caffe {
namespace {

constexpr int64_t kLine = 16;  // floats
// The transformed numbers of a block of tiles, in floats: as many as fit a core's cache, or as there are weights, which
// are read once for each block; but not more than the last bound, if that leaves enough tiles for the products.
constexpr int64_t kLeastBlock = 1 << 18, kMostBlock = 6 << 20, kLeastTiles = 24;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// At least so many floats in an odd number of cache lines, so that the lines at multiples of it fall into different
// sets of a cache.
int64_t odd_lines(int64_t floats) { return (ceil_divide(floats, kLine) | 1) * kLine; }

const WinogradKernels* kernels_for(const WinogradShape& shape) {
  return shape.lanes == 16 ? winograd_avx512(shape.tile) : winograd_avx2(shape.tile);
}

WinogradPlan plan_for(const WinogradShape& shape) {
  WinogradPlan plan;
  plan.shape = shape;
  plan.out_height = shape.height + 2 * (shape.pad - shape.dilation);
  plan.out_width = shape.width + 2 * (shape.pad - shape.dilation);
  plan.tile_rows = ceil_divide(ceil_divide(plan.out_height, shape.dilation), shape.tile);
  plan.tile_columns = ceil_divide(ceil_divide(plan.out_width, shape.dilation), shape.tile);
  plan.tiles = shape.images * shape.dilation * shape.dilation * plan.tile_rows * plan.tile_columns;
  plan.frequencies = (shape.tile + 2) * (shape.tile + 2);
  plan.panel = kernels_for(shape)->panel;
  plan.panels = ceil_divide(shape.outputs, plan.panel);
  plan.input_stride = odd_lines(shape.channels);
  plan.product_stride = odd_lines(plan.panels * plan.panel);
  return plan;
}

// How tiles are divided into blocks, and who computes them.
struct Division {
  // In tiles, the largest of the blocks.
  int64_t block;
  int64_t blocks;
  // One thread computes a block, and others compute other blocks at the same time. Otherwise all share each block.
  bool alone;
  int64_t input_step, product_step;

  Division(const WinogradPlan& plan, int threads) {
    const int64_t weights = plan.frequencies * plan.panels * plan.panel * plan.shape.channels;
    const int64_t size = std::clamp(weights, kLeastBlock, kMostBlock);
    const int64_t tile = plan.frequencies * (plan.input_stride + plan.product_stride);
    blocks = ceil_divide(plan.tiles, std::max(size / tile, kLeastTiles));
    block = ceil_divide(plan.tiles, std::max<int64_t>(blocks, 1));
    alone = threads > 1 && size == kLeastBlock && blocks >= 4 * threads;
    input_step = odd_lines(block * plan.input_stride);
    product_step = odd_lines(block * plan.product_stride);
  }
  int64_t floats(const WinogradPlan& plan) const { return plan.frequencies * (input_step + product_step); }
};

}  // namespace

bool winograd_compiled(int64_t lanes) {
  return lanes == 16 ? winograd_avx512(6) != nullptr : lanes == 8 && winograd_avx2(6) != nullptr;
}

int64_t winograd_weight_floats(const WinogradShape& shape) {
  const WinogradPlan plan = plan_for(shape);
  return plan.frequencies * plan.panels * plan.panel * shape.channels;
}

int64_t winograd_workspace_floats(const WinogradShape& shape, int threads) {
  const WinogradPlan plan = plan_for(shape);
  const Division division(plan, threads);
  return division.floats(plan) * (division.alone ? threads : 1);
}

void winograd_transform(const WinogradShape& shape, const float* weight, float* transformed, int threads) {
  const WinogradPlan plan = plan_for(shape);
  parallel_for(plan.panels, threads, 1, [&](int64_t begin, int64_t end) {
    kernels_for(shape)->transform_weights(plan, begin, end, weight, transformed);
  });
}

void winograd_convolution(const WinogradShape& shape, const float* x, const float* transformed, const float* bias,
                          float* y, bool relu, float* workspace, int threads) {
  const WinogradPlan plan = plan_for(shape);
  const Division division(plan, threads);
  const WinogradKernels& kernels = *kernels_for(shape);
  const auto compute = [&](int64_t index, int slot, int sharing) {
    WinogradBlock block;
    block.first = plan.tiles * index / division.blocks;
    block.count = plan.tiles * (index + 1) / division.blocks - block.first;
    block.input_step = division.input_step;
    block.product_step = division.product_step;
    block.inputs = workspace + slot * division.floats(plan);
    block.products = block.inputs + plan.frequencies * division.input_step;
    parallel_for(block.count, sharing, 1,
                 [&](int64_t begin, int64_t end) { kernels.transform_inputs(plan, block, begin, end, x); });
    parallel_for(plan.frequencies * plan.panels, sharing, 1,
                 [&](int64_t begin, int64_t end) { kernels.multiply(plan, block, begin, end, transformed); });
    parallel_for(block.count, sharing, 1, [&](int64_t begin, int64_t end) {
      kernels.transform_products(plan, block, begin, end, bias, y, relu);
    });
  };
  if (division.alone) {
    for_each_in_turn(division.blocks, threads, [&](int64_t index, int slot) { compute(index, slot, 1); });
  } else {
    for (int64_t index = 0; index < division.blocks; ++index) compute(index, 0, threads);
  }
}

}  // namespace caffe
