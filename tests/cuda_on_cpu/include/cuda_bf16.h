// __nv_bfloat16 for the emulated device.
#pragma once

#include "scalar.h"

struct __nv_bfloat16 {
  caffe::BFloat16 value;
};

inline float __bfloat162float(__nv_bfloat16 x) { return caffe::widen(x.value); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  __nv_bfloat16 result;
  caffe::narrow(x, &result.value);
  return result;
}
