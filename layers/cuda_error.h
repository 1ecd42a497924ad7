// The meaning of a non-zero return value of a CUDA function.
#pragma once

namespace caffe {

const char* cuda_error_string(int code);

}  // namespace caffe
