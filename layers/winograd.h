// 3 × 3 convolutions with stride 1 by Winograd's minimal filtering, for inference in float32.
//
// Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. Each tile of results, 4 × 4 or
// 6 × 6, comes from 6 × 6 or 8 × 8 inputs. These and the filters are transformed, multiplied number by number with a
// sum over the channels, and transformed back: 36 or 64 multiplications instead of 144 or 324. The sums are one matrix
// product of tiles and channels for each of the 36 or 64 numbers.
//
// Images are channels-last, so that transforms compute a vector of channels at once. The code is compiled for AVX2 and
// for AVX-512; the caller says which of them the processor has. A result does not depend on the number of threads. One
// that is not finite in the input reaches all results of its tiles, and no others.
#pragma once

#include <cstdint>

namespace caffe {

struct WinogradShape {
  // Of the input; outputs: the number of output channels.
  int64_t images, channels, outputs, height, width;
  // In pixels, alike in both directions. The output has height + 2 (pad - dilation) rows, and columns likewise.
  int64_t pad, dilation;
  // The side of a tile of results: 4 or 6.
  int64_t tile;
  // Floats in a vector: 8 (AVX2 and FMA) or 16 (AVX-512 F).
  int64_t lanes;
};

// Whether this build has code for vectors of so many floats.
bool winograd_compiled(int64_t lanes);

// The transformed weights of a convolution depend on the shape's channels, outputs, tile and lanes alone.
int64_t winograd_weight_floats(const WinogradShape& shape);
int64_t winograd_workspace_floats(const WinogradShape& shape, int threads);

// weight: [outputs, channels, 3, 3]; transformed: winograd_weight_floats numbers.
void winograd_transform(const WinogradShape& shape, const float* weight, float* transformed, int threads);

// x: [images, height, width, channels]; bias: [outputs]; y: [images, rows, columns, outputs], with at least one row and
// column; workspace: winograd_workspace_floats numbers for this number of threads.
void winograd_convolution(const WinogradShape& shape, const float* x, const float* transformed, const float* bias,
                          float* y, bool relu, float* workspace, int threads);

}  // namespace caffe
