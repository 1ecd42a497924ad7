// __half for the emulated device: the compiler's conversions, which round to nearest as the hardware's do.
#pragma once

#include <immintrin.h>

struct __half {
  unsigned short bits;
};

inline float __half2float(__half x) { return _cvtsh_ss(x.bits); }
inline __half __float2half_rn(float x) { return {_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)}; }
