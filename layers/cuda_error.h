// What a non-zero return of a CUDA function means.
#pragma once

namespace caffe {

const char* cuda_error_string(int code);

}  // namespace caffe
