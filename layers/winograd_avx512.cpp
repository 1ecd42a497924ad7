// Winograd's convolution in AVX-512 instructions. CMakeLists.txt has this file compiled for them on x86.
#ifdef __AVX512F__
#define CAFFE_LANES 16
#include "winograd_vector.h"

namespace caffe {
const WinogradKernels* winograd_avx512(int64_t tile) { return kernels(tile); }
}  // namespace caffe
#else
#include "winograd_kernels.h"

namespace caffe {
const WinogradKernels* winograd_avx512(int64_t) { return nullptr; }
}  // namespace caffe
#endif
