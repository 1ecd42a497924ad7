// 3 × 3 convolutions (stride 1, pad 1) by Winograd's minimal filtering, computed by NNPACK on PyTorch's threads.
//
// NNPACK is a part of PyTorch's library for x86, which exports nnp_convolution_inference; `function` is its address. A
// convolution is divided over threads by images and by output channels: NNPACK runs each part on the thread that calls
// it. It has threads of its own, too, but these would wait for a core on which OpenMP's threads spin between two layers.
#pragma once

#include <cstdint>

namespace caffe {

struct WinogradShape {
  int64_t images, channels, outputs, height, width;
};

// The parts into which the output channels are divided for this number of threads.
int winograd_parts(const WinogradShape& shape, int threads);

// Bytes of the transformed weights and of the workspace, which need an alignment of 64 bytes; 0 if NNPACK refuses the
// shape.
int64_t winograd_weight_bytes(const void* function, const WinogradShape& shape, int parts);
int64_t winograd_workspace_bytes(const void* function, const WinogradShape& shape, int parts, int threads);

// weight: [outputs, channels, 3, 3]. Returns NNPACK's status, 0 for success.
int winograd_transform(const void* function, const WinogradShape& shape, int parts, const float* weight,
                       void* transformed);

// x: [images, channels, height, width]; bias: [outputs]; y: [images, outputs, height, width]. Returns NNPACK's status.
int winograd_convolution(const void* function, const WinogradShape& shape, int parts, const float* x,
                         const void* transformed, const float* bias, float* y, bool relu, void* workspace, int threads);

}  // namespace caffe
