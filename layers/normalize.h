// Normalize: every element divided by the L2 norm of its group, times a learned scale (ParseNet, Liu et al. 2015, which
// SSD applies to conv4_3 and MDSSD to both sides of a fusion).
//
//   y = scale[c] * x / norm,  norm = sqrt(eps + sum of x^2 over the group)
//
// A group is the channels of one position of one item, or a whole item with `across_spatial`.
//
// The gradient is Caffe's:  dx = scale[c] * (dy - x * (x . dy) / norm^2) / norm,  with the dot product over the group.
// It leaves the scale out of the dot product, so with scales that differ within a group it is not the derivative of y;
// training like the original needs it this way. dscale[c] = sum over items and positions of dy * x / norm, which is
// 0, not NaN, where a scale is 0.
//
// x, y, dx and dy are dense arrays of items x channels x positions numbers of one type (CPU: all but FLOAT16). Either
// the positions of a channel are adjacent or, with `channels_last`, the channels of a position. scale, norm and dscale
// are double if x is, float otherwise. Outputs must not overlap inputs. Any of the sizes may be 0.
#pragma once

#include <cstdint>

#include "scalar.h"

namespace caffe {

struct NormalizeShape {
  int64_t items, channels, positions;
  bool channels_last;
  bool across_spatial;
  bool channel_shared;  // one scale in all, not one per channel
  double eps;

  int64_t norms() const { return across_spatial ? items : items * positions; }
};

// norm: shape.norms() numbers, kept for the gradient.
void normalize_forward_cpu(Scalar type, const NormalizeShape& shape, const void* x, const void* scale, void* y,
                           void* norm, int threads);

// workspace: normalize_backward_workspace_bytes.
void normalize_backward_cpu(Scalar type, const NormalizeShape& shape, const void* x, const void* dy, const void* scale,
                            const void* norm, void* dx, void* dscale, void* workspace, int threads);

// For either device.
int64_t normalize_backward_workspace_bytes(const NormalizeShape& shape);

// As above on device memory, ordered on `stream` (a cudaStream_t). Return a cudaError_t.
int normalize_forward_cuda(Scalar type, const NormalizeShape& shape, const void* x, const void* scale, void* y,
                           void* norm, void* stream);
int normalize_backward_cuda(Scalar type, const NormalizeShape& shape, const void* x, const void* dy, const void* scale,
                            const void* norm, void* dx, void* dscale, void* workspace, void* stream);

// The number of slices in which the CUDA code sums dscale, each into its own row of the workspace; the order of every
// sum depends only on the shape.
inline int64_t normalize_scale_slices(const NormalizeShape& shape) {
  const int64_t slices = shape.items * shape.positions / 2048;
  return slices < 1 ? 1 : slices > 64 ? 64 : slices;
}

}  // namespace caffe
