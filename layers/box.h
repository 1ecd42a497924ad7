// Arithmetic on boxes, shared by all native layers on CPU and GPU: overlap, encoding relative to a prior, clipping.
//
// Boxes are corners in units of the image (0 to 1 inside it). All is single precision with one rounding per operation,
// so a box meets a threshold on both devices or on neither; compile with -ffp-contract=off and -fmad=false.
// Comparisons are written so that a NaN coordinate gives an overlap of 0.
#pragma once

#include "float_math.h"

namespace caffe {

struct Box {
  float xmin, ymin, xmax, ymax;
};

// How a location is encoded relative to its prior. Values are those of PriorBoxParameter.CodeType.
enum class CodeType : int { CORNER = 1, CENTER_SIZE = 2, CORNER_SIZE = 3 };

CAFFE_HOST_DEVICE Box load_box(const float* p) { return {p[0], p[1], p[2], p[3]}; }

CAFFE_HOST_DEVICE void store_box(const Box& box, float* p) {
  p[0] = box.xmin;
  p[1] = box.ymin;
  p[2] = box.xmax;
  p[3] = box.ymax;
}

// The larger and the smaller of two numbers; `a` if they are unordered.
CAFFE_HOST_DEVICE float max_of(float a, float b) { return a < b ? b : a; }
CAFFE_HOST_DEVICE float min_of(float a, float b) { return b < a ? b : a; }

// Area; 0 for a box whose maximum is less than its minimum.
CAFFE_HOST_DEVICE float area(const Box& box) {
  const float size = (box.xmax - box.xmin) * (box.ymax - box.ymin);
  return box.xmax < box.xmin || box.ymax < box.ymin ? 0.0f : size;
}

// Intersection over union, with the areas given (they are needed once per box, overlaps once per pair).
// 0 if the boxes share no area: boxes that touch, empty or inside-out boxes, NaN coordinates.
CAFFE_HOST_DEVICE float overlap(const Box& a, float area_a, const Box& b, float area_b) {
  const float width = min_of(a.xmax, b.xmax) - max_of(a.xmin, b.xmin);
  const float height = min_of(a.ymax, b.ymax) - max_of(a.ymin, b.ymin);
  const float shared = width * height;
  const float ratio = shared / (area_a + area_b - shared);
  return width > 0.0f && height > 0.0f && ratio > 0.0f ? ratio : 0.0f;
}

CAFFE_HOST_DEVICE float overlap(const Box& a, const Box& b) { return overlap(a, area(a), b, area(b)); }

// Limits each coordinate to the image.
CAFFE_HOST_DEVICE float clip_unit(float x) { return max_of(min_of(x, 1.0f), 0.0f); }

CAFFE_HOST_DEVICE Box clip(const Box& box) {
  return {clip_unit(box.xmin), clip_unit(box.ymin), clip_unit(box.xmax), clip_unit(box.ymax)};
}

// Whether any coordinate is outside the image.
CAFFE_HOST_DEVICE bool crosses_boundary(const Box& box) {
  return box.xmin < 0.0f || box.xmin > 1.0f || box.ymin < 0.0f || box.ymin > 1.0f || box.xmax < 0.0f ||
         box.xmax > 1.0f || box.ymax < 0.0f || box.ymax > 1.0f;
}

// The encoding of `box` relative to `prior`: what a location layer should predict. With `variance_in_target` the code
// is not divided by the variances. CENTER_SIZE needs a prior and a box of positive size, CORNER_SIZE only such a prior.
CAFFE_HOST_DEVICE Box encode(CodeType type, bool variance_in_target, const Box& prior, const Box& variance,
                             const Box& box) {
  Box code;
  if (type == CodeType::CENTER_SIZE) {
    const float prior_width = prior.xmax - prior.xmin, prior_height = prior.ymax - prior.ymin;
    const float prior_x = (prior.xmin + prior.xmax) * 0.5f, prior_y = (prior.ymin + prior.ymax) * 0.5f;
    const float x = (box.xmin + box.xmax) * 0.5f, y = (box.ymin + box.ymax) * 0.5f;
    code = {(x - prior_x) / prior_width, (y - prior_y) / prior_height, log_float((box.xmax - box.xmin) / prior_width),
            log_float((box.ymax - box.ymin) / prior_height)};
  } else {
    code = {box.xmin - prior.xmin, box.ymin - prior.ymin, box.xmax - prior.xmax, box.ymax - prior.ymax};
    if (type == CodeType::CORNER_SIZE) {
      const float width = prior.xmax - prior.xmin, height = prior.ymax - prior.ymin;
      code = {code.xmin / width, code.ymin / height, code.xmax / width, code.ymax / height};
    }
  }
  if (variance_in_target) return code;
  return {code.xmin / variance.xmin, code.ymin / variance.ymin, code.xmax / variance.xmax, code.ymax / variance.ymax};
}

// The box that `code` encodes: the inverse of `encode`. Not clipped.
CAFFE_HOST_DEVICE Box decode(CodeType type, bool variance_in_target, const Box& prior, const Box& variance,
                             const Box& code) {
  Box c = code;
  if (!variance_in_target) {
    c = {variance.xmin * c.xmin, variance.ymin * c.ymin, variance.xmax * c.xmax, variance.ymax * c.ymax};
  }
  if (type == CodeType::CORNER) {
    return {prior.xmin + c.xmin, prior.ymin + c.ymin, prior.xmax + c.xmax, prior.ymax + c.ymax};
  }
  const float prior_width = prior.xmax - prior.xmin, prior_height = prior.ymax - prior.ymin;
  if (type == CodeType::CORNER_SIZE) {
    return {prior.xmin + c.xmin * prior_width, prior.ymin + c.ymin * prior_height, prior.xmax + c.xmax * prior_width,
            prior.ymax + c.ymax * prior_height};
  }
  const float x = c.xmin * prior_width + (prior.xmin + prior.xmax) * 0.5f;
  const float y = c.ymin * prior_height + (prior.ymin + prior.ymax) * 0.5f;
  const float half_width = exp_float(c.xmax) * prior_width * 0.5f;
  const float half_height = exp_float(c.ymax) * prior_height * 0.5f;
  return {x - half_width, y - half_height, x + half_width, y + half_height};
}

}  // namespace caffe
