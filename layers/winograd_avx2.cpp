// Winograd's convolution in AVX2 instructions. CMakeLists.txt has this file compiled for them on x86.
#ifdef __AVX2__
#define CAFFE_LANES 8
#include "winograd_vector.h"

namespace caffe {
const WinogradKernels* winograd_avx2(int64_t tile) { return kernels(tile); }
}  // namespace caffe
#else
#include "winograd_kernels.h"

namespace caffe {
const WinogradKernels* winograd_avx2(int64_t) { return nullptr; }
}  // namespace caffe
#endif
