// The one file that knows nanobind: each native function by name, pointers as integers.
#include <nanobind/nanobind.h>

#include "cuda_error.h"

namespace nb = nanobind;

NB_MODULE(_C, m) {
  m.doc() = "Native layers of the SSD branch: box matching, losses, detection.";
#ifdef CAFFE_WITH_CUDA
  m.attr("has_cuda") = true;
  m.def("cuda_error_string", &caffe::cuda_error_string);
#else
  m.attr("has_cuda") = false;
#endif
}
