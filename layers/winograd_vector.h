// The phases of Winograd's convolution, in vectors of CAFFE_LANES floats: 16 (AVX-512) or 8 (AVX2). Included by one
// file for each, which is compiled for these instructions. Everything here has internal linkage and uses no function of
// the standard library, so that no code for newer processors gets into functions that others share.
#pragma once

#include <immintrin.h>

#include "winograd_kernels.h"
#include "winograd_tiles.h"

namespace caffe {
namespace {

constexpr int kLanes = CAFFE_LANES;
// The rows of a product that are computed at a time: their sums take 24 of 32 registers, or 12 of 16.
constexpr int kMostRows = kLanes == 16 ? 12 : 6;
constexpr int kPanelVectors = 2, kPanel = kPanelVectors * kLanes;
// How far ahead weights are fetched, in floats. They are read once, and if there are many from behind the caches.
constexpr int kPrefetch = 4096, kLine = 16;

// The channels that are summed at a time.
constexpr int64_t kMostSummed = 128;

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef float Unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(kLanes * 8)));

CAFFE_INLINE Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
CAFFE_INLINE void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
// The first n numbers of a vector; the others are 0.
#if CAFFE_LANES == 16
CAFFE_INLINE Vector load_part(const float* from, int64_t n) { return _mm512_maskz_loadu_ps((1u << n) - 1, from); }
CAFFE_INLINE void store_part(float* to, Vector value, int64_t n) { _mm512_mask_storeu_ps(to, (1u << n) - 1, value); }
#else
alignas(32) constexpr int32_t kMasks[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
CAFFE_INLINE __m256i mask(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + kLanes - n));
}
CAFFE_INLINE Vector load_part(const float* from, int64_t n) { return _mm256_maskload_ps(from, mask(n)); }
CAFFE_INLINE void store_part(float* to, Vector value, int64_t n) { _mm256_maskstore_ps(to, mask(n), value); }
#endif

// Where a tile is: its image, and its first pixel in the output.
struct Position {
  int64_t image, row, column;

  template <typename Tile>
  static Position of(const WinogradPlan& plan, int64_t tile) {
    const int64_t dilation = plan.shape.dilation;
    const int64_t column = tile % plan.tile_columns, row = (tile /= plan.tile_columns) % plan.tile_rows;
    const int64_t across = (tile /= plan.tile_rows) % dilation, down = (tile /= dilation) % dilation;
    return {tile / dilation, down + row * Tile::kResults * dilation, across + column * Tile::kResults * dilation};
  }
};

// ---- The phases, one tile or panel at a time

template <typename Tile>
void transform_weight_panel(const WinogradPlan& plan, int64_t panel, const float* weight, float* transformed) {
  constexpr int n = Tile::kInputs;
  const int64_t channels = plan.shape.channels;
  for (int64_t c = 0; c < channels; ++c) {
    for (int v = 0; v < kPanelVectors; ++v) {
      const int64_t output = panel * kPanel + v * kLanes, left = plan.shape.outputs - output;
      Doubles filter[3][3] = {}, half[n][3], whole[n];
      for (int lane = 0; lane < kLanes && lane < left; ++lane) {
        const float* from = weight + ((output + lane) * channels + c) * 9;
        for (int i = 0; i < 9; ++i) filter[i % 3][i / 3][lane] = from[i];
      }
      for (int j = 0; j < 3; ++j) {
        Tile::weight(filter[j], whole);
        for (int i = 0; i < n; ++i) half[i][j] = whole[i];
      }
      for (int i = 0; i < n; ++i) {
        Tile::weight(half[i], whole);
        for (int j = 0; j < n; ++j) {
          const int64_t at = ((i * n + j) * plan.panels + panel) * channels + c;
          store(transformed + at * kPanel + v * kLanes, __builtin_convertvector(whole[j], Vector));
        }
      }
    }
  }
}

// x: the image; row, column: the tile's first input, perhaps outside the image. `inside`: no input is outside.
template <typename Tile, bool inside>
void transform_input_tile(const WinogradPlan& plan, const float* x, int64_t row, int64_t column, float* to,
                          int64_t step) {
  constexpr int n = Tile::kInputs;
  const WinogradShape& shape = plan.shape;
  const int64_t channels = shape.channels, across = shape.dilation * channels, down = across * shape.width;
  const float* first = x + (row * shape.width + column) * channels;
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    Vector half[n][n], numbers[n], whole[n];
#pragma GCC unroll 1
    for (int i = 0; i < n; ++i) {
      const int64_t y = row + i * shape.dilation;
      const bool row_inside = inside || (y >= 0 && y < shape.height);
#pragma GCC unroll 8
      for (int j = 0; j < n; ++j) {
        const int64_t at = column + j * shape.dilation;
        if (inside || (row_inside && at >= 0 && at < shape.width)) {
          const float* from = first + i * down + j * across + c;
          numbers[j] = left >= kLanes ? load(from) : load_part(from, left);
        } else {
          numbers[j] = Vector{};
        }
      }
      Tile::input(numbers, half[i]);
    }
#pragma GCC unroll 1
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) numbers[i] = half[i][j];
      Tile::input(numbers, whole);
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) store(to + (i * n + j) * step + c, whole[i]);
    }
  }
}

// products[rows][panel] = inputs[rows][channels] · weights[channels][panel]. Each sum is over the channels in order,
// whatever the number of rows, and in parts, so that rounding errors grow more slowly with the number of channels.
template <int rows>
void multiply_rows(const float* inputs, int64_t input_stride, const float* weights, int64_t channels, float* products,
                   int64_t product_stride) {
  for (int64_t begin = 0; begin < channels; begin += kMostSummed) {
    const int64_t end = begin + kMostSummed < channels ? begin + kMostSummed : channels;
    Vector sums[rows][kPanelVectors] = {};
    for (int64_t c = begin; c < end; ++c, weights += kPanel) {
      Vector weight[kPanelVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) weight[v] = load(weights + v * kLanes);
#pragma GCC unroll 2
      for (int ahead = 0; ahead < kPanel; ahead += kLine) __builtin_prefetch(weights + kPrefetch + ahead);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const Vector input = inputs[i * input_stride + c] - Vector{};  // in every lane
#pragma GCC unroll 2
        for (int v = 0; v < kPanelVectors; ++v) sums[i][v] += input * weight[v];
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        float* to = products + i * product_stride + v * kLanes;
        store(to, begin == 0 ? sums[i][v] : load(to) + sums[i][v]);
      }
    }
  }
}

// The same for 1 to `most` rows.
template <int most>
void multiply_part(int64_t rows, const float* inputs, int64_t input_stride, const float* weights, int64_t channels,
                   float* products, int64_t product_stride) {
  if (rows == most) {
    multiply_rows<most>(inputs, input_stride, weights, channels, products, product_stride);
  } else if constexpr (most > 1) {
    multiply_part<most - 1>(rows, inputs, input_stride, weights, channels, products, product_stride);
  }
}

// y: the image; row, column: the tile's first result.
template <typename Tile>
void transform_product_tile(const WinogradPlan& plan, const float* from, int64_t step, const float* bias, float* y,
                            int64_t row, int64_t column, bool relu) {
  constexpr int n = Tile::kInputs, results = Tile::kResults;
  const int64_t outputs = plan.shape.outputs, dilation = plan.shape.dilation;
  const int64_t across = dilation * outputs, down = across * plan.out_width;
  const int64_t rows = (plan.out_height - row + dilation - 1) / dilation;
  const int64_t columns = (plan.out_width - column + dilation - 1) / dilation;
  float* first = y + (row * plan.out_width + column) * outputs;
  for (int64_t c = 0; c < outputs; c += kLanes) {
    const int64_t left = outputs - c;
    const Vector added = left >= kLanes ? load(bias + c) : load_part(bias + c, left);
    Vector half[results][n], numbers[n], whole[results];
#pragma GCC unroll 1
    for (int j = 0; j < n; ++j) {
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) numbers[i] = load(from + (i * n + j) * step + c);
      Tile::product(numbers, whole);
#pragma GCC unroll 8
      for (int i = 0; i < results; ++i) half[i][j] = whole[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < results; ++i) {
      if (i >= rows) break;
      Tile::product(half[i], whole);
#pragma GCC unroll 8
      for (int j = 0; j < results; ++j) {
        if (j >= columns) break;
        Vector value = whole[j] + added;
        if (relu) value = value < 0.f ? Vector{} : value;  // keeps NaN
        float* to = first + i * down + j * across + c;
        if (left >= kLanes) {
          store(to, value);
        } else {
          store_part(to, value, left);
        }
      }
    }
  }
}

// ---- Ranges of tiles and panels

template <typename Tile>
void transform_weights(const WinogradPlan& plan, int64_t begin, int64_t end, const float* weight, float* transformed) {
  for (int64_t panel = begin; panel < end; ++panel) transform_weight_panel<Tile>(plan, panel, weight, transformed);
}

template <typename Tile>
void transform_inputs(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
                      const float* x) {
  const WinogradShape& shape = plan.shape;
  const int64_t reach = (Tile::kInputs - 1) * shape.dilation;
  for (int64_t tile = begin; tile < end; ++tile) {
    const Position at = Position::of<Tile>(plan, block.first + tile);
    const int64_t row = at.row - shape.pad, column = at.column - shape.pad;
    const bool inside = row >= 0 && column >= 0 && row + reach < shape.height && column + reach < shape.width;
    const float* image = x + at.image * shape.height * shape.width * shape.channels;
    float* to = block.inputs + tile * plan.input_stride;
    (inside ? transform_input_tile<Tile, true> : transform_input_tile<Tile, false>)(plan, image, row, column, to,
                                                                                    block.input_step);
  }
}

void multiply(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
              const float* transformed) {
  const int64_t channels = plan.shape.channels, parts = (block.count + kMostRows - 1) / kMostRows;
  for (int64_t pair = begin; pair < end; ++pair) {
    const int64_t frequency = pair / plan.panels, panel = pair % plan.panels;
    const float* inputs = block.inputs + frequency * block.input_step;
    float* products = block.products + frequency * block.product_step + panel * kPanel;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = block.count * part / parts, rows = block.count * (part + 1) / parts - first;
      multiply_part<kMostRows>(rows, inputs + first * plan.input_stride, plan.input_stride,
                               transformed + pair * channels * kPanel, channels, products + first * plan.product_stride,
                               plan.product_stride);
    }
  }
}

template <typename Tile>
void transform_products(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
                        const float* bias, float* y, bool relu) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const Position at = Position::of<Tile>(plan, block.first + tile);
    float* image = y + at.image * plan.out_height * plan.out_width * plan.shape.outputs;
    transform_product_tile<Tile>(plan, block.products + tile * plan.product_stride, block.product_step, bias, image,
                                 at.row, at.column, relu);
  }
}

template <typename Tile>
constexpr WinogradKernels kKernels = {kPanel, transform_weights<Tile>, transform_inputs<Tile>, multiply,
                                      transform_products<Tile>};

CAFFE_INLINE const WinogradKernels* kernels(int64_t tile) {
  return tile == 4 ? &kKernels<WinogradTile<4>> : &kKernels<WinogradTile<6>>;
}

}  // namespace
}  // namespace caffe
