// Names for the error codes that the CUDA layers return.
#include <cuda_runtime.h>

#include "cuda_error.h"

namespace caffe {

const char* cuda_error_string(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace caffe
