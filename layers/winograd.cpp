#include "winograd.h"

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "parallel.h"

namespace caffe {
namespace {

// nnp_convolution_inference and the types of its arguments, as in nnpack.h.
struct Size {
  size_t width, height;
};
struct Padding {
  size_t top, right, bottom, left;
};
enum Algorithm { kWinograd8x8 = 3 };
enum Strategy { kTransformWeights = 2, kUseTransformed = 3 };
enum Activation { kNone = 0, kRelu = 1 };
using Inference = int (*)(int algorithm, int strategy, size_t channels, size_t outputs, Size input, Padding padding,
                          Size kernel, Size stride, const float* x, const float* weight, const float* bias, float* y,
                          void* workspace, size_t* workspace_bytes, int activation, const void* activation_parameters,
                          void* threads, void* profile);

constexpr int64_t kAlignment = 64;
// A part has at least this many outputs; NNPACK multiplies blocks of 8.
constexpr int64_t kLeastOutputs = 16;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// One image, and the outputs of one part of a convolution.
struct Part {
  Inference function;
  const WinogradShape& shape;
  int64_t first, outputs;

  Part(const void* address, const WinogradShape& s, int parts, int64_t part)
      : function(reinterpret_cast<Inference>(const_cast<void*>(address))),
        shape(s),
        first(s.outputs * part / parts),
        outputs(s.outputs * (part + 1) / parts - first) {}

  int run(Strategy strategy, const float* x, const void* weight, const float* bias, float* y, bool relu,
          void* workspace, size_t* bytes) const {
    return function(kWinograd8x8, strategy, shape.channels, outputs,
                    {static_cast<size_t>(shape.width), static_cast<size_t>(shape.height)}, {1, 1, 1, 1}, {3, 3}, {1, 1},
                    x, static_cast<const float*>(weight), bias, y, workspace, bytes, relu ? kRelu : kNone, nullptr,
                    nullptr, nullptr);
  }
  // 0 if NNPACK refuses the shape.
  int64_t bytes(Strategy strategy) const {
    size_t bytes = 0;
    return run(strategy, nullptr, nullptr, nullptr, nullptr, false, nullptr, &bytes) ? 0 : static_cast<int64_t>(bytes);
  }
};

// The largest need of any part; parts differ by at most one output.
int64_t most_bytes(const void* function, const WinogradShape& shape, int parts, Strategy strategy) {
  int64_t most = 0;
  for (int part = 0; part < parts; ++part) {
    const int64_t bytes = Part(function, shape, parts, part).bytes(strategy);
    if (bytes == 0) return 0;
    most = std::max(most, aligned(bytes));
  }
  return most;
}

}  // namespace

int winograd_parts(const WinogradShape& shape, int threads) {
  const int64_t idle = threads / std::max<int64_t>(shape.images, 1);
  return static_cast<int>(std::clamp<int64_t>(idle, 1, std::max<int64_t>(shape.outputs / kLeastOutputs, 1)));
}

int64_t winograd_weight_bytes(const void* function, const WinogradShape& shape, int parts) {
  return parts * most_bytes(function, shape, parts, kTransformWeights);
}

int64_t winograd_workspace_bytes(const void* function, const WinogradShape& shape, int parts, int threads) {
  return threads * most_bytes(function, shape, parts, kUseTransformed);
}

int winograd_transform(const void* function, const WinogradShape& shape, int parts, const float* weight,
                       void* transformed) {
  const int64_t stride = most_bytes(function, shape, parts, kTransformWeights);
  for (int i = 0; i < parts; ++i) {
    const Part part(function, shape, parts, i);
    size_t bytes = stride;
    const int status = part.run(kTransformWeights, nullptr, weight + part.first * shape.channels * 9, nullptr, nullptr,
                                false, static_cast<char*>(transformed) + i * stride, &bytes);
    if (status != 0) return status;
  }
  return 0;
}

int winograd_convolution(const void* function, const WinogradShape& shape, int parts, const float* x,
                         const void* transformed, const float* bias, float* y, bool relu, void* workspace,
                         int threads) {
  const int64_t weight_stride = most_bytes(function, shape, parts, kTransformWeights);
  const int64_t workspace_stride = most_bytes(function, shape, parts, kUseTransformed);
  const int64_t pixels = shape.height * shape.width;
  std::atomic<int> failure{0};
  for_each_in_turn(shape.images * parts, threads, [&](int64_t index, int slot) {
    const int64_t image = index / parts, number = index % parts;
    const Part part(function, shape, parts, number);
    size_t bytes = workspace_stride;
    const int status = part.run(kUseTransformed, x + image * shape.channels * pixels,
                                static_cast<const char*>(transformed) + number * weight_stride, bias + part.first,
                                y + (image * shape.outputs + part.first) * pixels, relu,
                                static_cast<char*>(workspace) + slot * workspace_stride, &bytes);
    if (status != 0) failure = status;
  });
  return failure;
}

}  // namespace caffe
