// What winograd.cpp uses of the code that is compiled once for each kind of vector (winograd_vector.h).
#pragma once

#include <cstdint>

#include "winograd.h"

namespace caffe {

// How a convolution is divided, and where its numbers are.
struct WinogradPlan {
  WinogradShape shape;
  // Of the output, in pixels.
  int64_t out_height, out_width;
  // Of every dilation-th pixel of the output, counted in tiles.
  int64_t tile_rows, tile_columns;
  // Of all images.
  int64_t tiles;
  // The numbers of a transformed tile, for each channel.
  int64_t frequencies;
  // Output channels are multiplied in panels of so many; the last is filled up with zeros.
  int64_t panel, panels;
  // Floats from one tile to the next among the transformed inputs, and among the products.
  int64_t input_stride, product_stride;
};

// Consecutive tiles that are computed together, as [frequency][tile][channel]. Floats from one frequency to the next
// are at `input_step` and `product_step`.
struct WinogradBlock {
  int64_t first, count;
  int64_t input_step, product_step;
  float *inputs, *products;
};

// Each function computes a range of equal, independent parts of a phase.
struct WinogradKernels {
  int64_t panel;
  // Parts are panels.
  void (*transform_weights)(const WinogradPlan& plan, int64_t begin, int64_t end, const float* weight,
                            float* transformed);
  // Parts are tiles.
  void (*transform_inputs)(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
                           const float* x);
  // Parts are pairs of a frequency and a panel.
  void (*multiply)(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
                   const float* transformed);
  // Parts are tiles.
  void (*transform_products)(const WinogradPlan& plan, const WinogradBlock& block, int64_t begin, int64_t end,
                             const float* bias, float* y, bool relu);
};

// For tiles of 4 × 4 or 6 × 6; null if the compiler was not told to use these instructions.
const WinogradKernels* winograd_avx2(int64_t tile);
const WinogradKernels* winograd_avx512(int64_t tile);

}  // namespace caffe
