// Confidence losses of many boxes at once, on the CPU; the loss of one is in multibox_terms.h.
#pragma once

#include <cstdint>

#include "multibox_loss.h"

namespace caffe {

// Confidence losses of `count` boxes, [count, num_classes] scores. targets: the class of each box, or null where
// `target` is that of all.
void confidence_losses(ConfLossType type, const float* scores, int64_t count, int num_classes, const int32_t* targets,
                       int32_t target, float* losses);

// Upper bounds of the softmax losses of `count` boxes of class `target`, at most kBoundSlack above the losses. They come
// from a coarser exponential of fewer operations. NaN for boxes with a score that is not finite, or far above the
// target's.
constexpr float kBoundSlack = 0.0625f;
void softmax_loss_bounds(const float* scores, int64_t count, int num_classes, int32_t target, float* bounds);

// The same as confidence_losses for the boxes of `index` (ascending) among the scores; targets[i] is the class of box index[i]. `rows` is
// scratch of kGathered * num_classes floats.
constexpr int kGathered = 32;
void confidence_losses_at(ConfLossType type, const float* scores, const int32_t* index, int64_t count, int num_classes,
                          const int32_t* targets, float* rows, float* losses);

}  // namespace caffe
