// exp and log in single precision, the same to the last bit on CPU and GPU.
//
// Losses rank boxes and decoded boxes meet thresholds, so a device whose exp differs in the last place would choose
// different boxes. These functions use only additions, multiplications and bit operations, so they agree wherever
// products and sums are not fused (-ffp-contract=off for C++, -fmad=false for CUDA), and loops over them vectorize.
// Errors are below two units in the last place, as in the C libraries of both devices.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define CAFFE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CAFFE_HOST_DEVICE inline
#endif

namespace caffe {

CAFFE_HOST_DEVICE int32_t float_bits(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

CAFFE_HOST_DEVICE float float_from_bits(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^n for -126 <= n <= 127; something else, but nothing undefined, for other n, which NaN leads to.
CAFFE_HOST_DEVICE float power_of_2(int32_t n) {
  return float_from_bits(static_cast<int32_t>((static_cast<uint32_t>(n) + 127u) << 23));
}

// e^r for |r| <= ln(2) / 2.
CAFFE_HOST_DEVICE float exp_reduced(float r) {
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// 1.5 * 2^23: adding it to a number leaves the nearest integer in the low bits.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

// x - n ln(2). ln(2) is split into two parts; the first has few enough bits for an exact product.
CAFFE_HOST_DEVICE float less_logs_of_2(float x, float n) { return x - n * 0.693359375f - n * -2.12194440e-4f; }

// e^x. Infinity above 88.72, gradual underflow to 0 below -87.33, NaN for NaN.
CAFFE_HOST_DEVICE float exp_float(float x) {
  // e^x = 2^n e^r with integer n. Beyond the clamp the result is infinity or 0 anyway; NaN passes it.
  float y = 90.0f < x ? 90.0f : x;
  y = -105.0f > y ? -105.0f : y;
  const float shifted = y * 1.44269504f + kRounder;
  const float p = exp_reduced(less_logs_of_2(y, shifted - kRounder));
  // 2^n in two factors, so that neither leaves the normal range.
  const int32_t n = float_bits(shifted) - kRounderBits;
  const int32_t half = n >> 1;
  return p * power_of_2(half) * power_of_2(n - half);
}

// e^x for x <= 0, faster: results below the smallest normal number are about that number instead. NaN for NaN.
CAFFE_HOST_DEVICE float exp_not_positive(float x) {
  const float y = -87.3365f > x ? -87.3365f : x;
  const float shifted = y * 1.44269504f + kRounder;
  const float p = exp_reduced(less_logs_of_2(y, shifted - kRounder));
  return p * power_of_2(float_bits(shifted) - kRounderBits);
}

// Natural logarithm for x >= the smallest normal number. 0 gives -infinity, negative numbers and NaN give NaN;
// subnormal numbers are not supported.
CAFFE_HOST_DEVICE float log_float(float x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2))
  const uint32_t bits = static_cast<uint32_t>(float_bits(x));  // unsigned: negative numbers and NaN wrap around
  const int32_t e = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;
  const float m = float_from_bits(static_cast<int32_t>(bits - (static_cast<uint32_t>(e) << 23)));
  const float r = m - 1.0f;
  const float z = r * r;
  float p = 7.0376836292e-2f;
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  p = p * r * z;
  const float n = static_cast<float>(e);
  p = p + n * -2.12194440e-4f;
  p = p - 0.5f * z;
  float result = r + p + n * 0.693359375f;
  result = x > 3.4028234e38f ? x : result;  // infinity stays
  const float nan = float_from_bits(0x7fc00000);
  const float minus_infinity = float_from_bits(static_cast<int32_t>(0xff800000u));
  return x > 0.0f ? result : (x == 0.0f ? minus_infinity : nan);
}

}  // namespace caffe
