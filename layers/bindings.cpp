// The one file that knows nanobind: each native function by name, pointers as integers.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_C, m) { m.doc() = "Native layers of the SSD branch: box matching, losses, detection."; }
