// The number types of blobs, and the types of sums over them.
#pragma once

#include <cstdint>
#include <cstring>

#include "float_math.h"

namespace caffe {

enum class Scalar : int { FLOAT32 = 0, FLOAT64 = 1, FLOAT16 = 2, BFLOAT16 = 3 };

// The upper half of a float. Rounds to nearest, ties to even, as every device does.
struct BFloat16 {
  uint16_t bits;
};

CAFFE_HOST_DEVICE float widen(float x) { return x; }
CAFFE_HOST_DEVICE double widen(double x) { return x; }
CAFFE_HOST_DEVICE float widen(BFloat16 x) { return float_from_bits(static_cast<int32_t>(uint32_t{x.bits} << 16)); }

CAFFE_HOST_DEVICE void narrow(float x, float* to) { *to = x; }
CAFFE_HOST_DEVICE void narrow(double x, double* to) { *to = x; }
CAFFE_HOST_DEVICE void narrow(float x, BFloat16* to) {
  const uint32_t bits = static_cast<uint32_t>(float_bits(x));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

// float for all types except double.
template <typename T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};

}  // namespace caffe
