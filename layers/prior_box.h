// PriorBox: the default boxes of one prediction layer (SSD, Liu et al. 2016, section 2.2).
//
// Boxes are ordered by row, column, then size; each is (xmin, ymin, xmax, ymax) in units of the image, centered on
// ((column + offset) * step_w, (row + offset) * step_h) pixels. Arithmetic is the original's, to the last bit: centers
// and sizes in single precision, corners in double, rounded once.
#pragma once

#include <array>
#include <cstdint>

#include "box.h"

namespace caffe {

struct PriorBoxGrid {
  int layer_height, layer_width;
  int image_height, image_width;  // pixels
  float step_h, step_w;           // pixels
  float offset;                   // in steps
  bool clip;                      // limit the boxes to the image
  std::array<float, 4> variance;
};

// Width and height in pixels of the boxes at each position, in order: for each min_size the square of that size, with
// max_sizes (none or one for each min_size) the square of sqrt(min * max), then the aspect ratios other than 1, each
// followed by its reciprocal with `flip`. Ratios within 1e-6 of an earlier one are dropped. min_size and max_size are
// truncated to whole pixels. Writes count x 2 numbers to `sizes` unless it is null; returns count, which is at most
// num_sizes * (2 + 2 * num_ratios).
int prior_box_sizes(const float* min_sizes, const float* max_sizes, int num_sizes, const float* ratios, int num_ratios,
                    bool flip, float* sizes);

CAFFE_HOST_DEVICE Box prior_box_at(const PriorBoxGrid& grid, int row, int column, float width, float height) {
  const float x = (static_cast<float>(column) + grid.offset) * grid.step_w;
  const float y = (static_cast<float>(row) + grid.offset) * grid.step_h;
  const double half_width = width / 2.0, half_height = height / 2.0;
  const Box box = {static_cast<float>((x - half_width) / grid.image_width),
                   static_cast<float>((y - half_height) / grid.image_height),
                   static_cast<float>((x + half_width) / grid.image_width),
                   static_cast<float>((y + half_height) / grid.image_height)};
  return grid.clip ? clip(box) : box;
}

// Fills `priors`: 2 x (layer_height * layer_width * num_sizes * 4), the boxes, then their variances.
// sizes: num_sizes x 2, from prior_box_sizes.
void prior_box_cpu(const PriorBoxGrid& grid, const float* sizes, int num_sizes, float* priors);

// As prior_box_cpu on device memory, `sizes` too, ordered on `stream` (a cudaStream_t). Returns a cudaError_t.
int prior_box_cuda(const PriorBoxGrid& grid, const float* sizes, int num_sizes, float* priors, void* stream);

}  // namespace caffe
