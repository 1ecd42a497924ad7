// MultiBoxLoss: the training loss of SSD (Liu et al. 2016, section 2.2): matching, hard example mining, localization
// and confidence losses, and their gradients.
//
// Arrays, all float32 and contiguous unless said otherwise; N images, P priors, C classes, M label rows, and L location
// classes: 1 if locations are shared between classes, else C.
//
//   loc     [N, P, L, 4]  location predictions, encoded relative to the priors
//   conf    [N, P, C]     class scores before softmax or sigmoid
//   prior   [2, P, 4]     boxes (units of the image), then the variances of their encodings
//   label   [M, 8]        image, class, instance, xmin, ymin, xmax, ymax, difficult; rows of image -1, or of an image
//                         that is not in the batch, are passed over
//   match   int32 [N, K, P], K = match_classes(options): what forward decided and backward needs. The label row that
//                         the prior was matched to, or one of the codes below
//   counts  int32 [2]     positives and negatives chosen in the whole batch
//   loss    [1]
//
// forward writes match, counts and loss; backward reads match and counts and writes the whole of both gradients.
// Outputs must not overlap inputs or each other. `workspace` is uninitialized memory of
// multibox_loss_workspace_bytes_cpu bytes, aligned to 64; nothing in it is needed after the call. Nothing is allocated;
// `threads` bounds the threads used, and results do not depend on it.
//
// Ties: equal overlaps go to the lower box, then the earlier label row; equal losses in mining to the lower box. A NaN
// score ranks first in mining, so that it shows in the loss; a box with a NaN coordinate overlaps nothing.
//
// Kept from the original, because existing results depend on it:
//   * with encode_variance_in_target the location gradient is not divided by the variance;
//   * LOGISTIC with mining NONE sets the target of image n, prior p, class c at [n * P + p * C + c] of the batch's
//     scores, which is right for the first image only.
#pragma once

#include <cstdint>

#include "box.h"

namespace caffe {

enum class LocLossType : int { L2 = 0, SMOOTH_L1 = 1 };
enum class ConfLossType : int { SOFTMAX = 0, LOGISTIC = 1 };
enum class MatchType : int { BIPARTITE = 0, PER_PREDICTION = 1 };
enum class MiningType : int { NONE = 0, MAX_NEGATIVE = 1, HARD_EXAMPLE = 2 };
enum class Normalization : int { FULL = 0, VALID = 1, BATCH_SIZE = 2, NONE = 3 };

// Values of match other than a label row.
constexpr int32_t kNotChosen = -1;
constexpr int32_t kNegative = -3;

// MultiBoxLossParameter and the normalization of LossParameter; enumerations have the values of caffe.proto.
struct MultiBoxLossOptions {
  int num_classes;
  bool share_location;
  LocLossType loc_loss_type;
  ConfLossType conf_loss_type;
  float loc_weight;
  bool with_loc, with_conf;  // whether each part is in the loss
  MatchType match_type;
  float overlap_threshold;
  bool use_prior_for_matching;
  int background_label_id;  // outside 0..num_classes-1: none (LOGISTIC only)
  bool use_difficult_gt;
  float neg_pos_ratio;
  float neg_overlap;
  CodeType code_type;
  bool encode_variance_in_target;
  bool map_object_to_agnostic;
  bool ignore_cross_boundary_bbox;
  bool bp_inside;
  MiningType mining_type;  // mining needs share_location
  float nms_threshold;     // 0: no suppression before samples are taken
  int nms_top_k;           // -1: all
  bool use_prior_for_nms;
  int sample_size;
  Normalization normalization;
};

struct MultiBoxLossSizes {
  int64_t images, priors, labels;
};

// Matches are stored per class if each class matches its own predictions.
CAFFE_HOST_DEVICE int match_classes(const MultiBoxLossOptions& options) {
  return options.share_location || options.use_prior_for_matching ? 1 : options.num_classes;
}

int64_t multibox_loss_workspace_bytes_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options,
                                          int threads);

void multibox_loss_forward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                               const float* conf, const float* prior, const float* label, float* loss, int32_t* match,
                               int32_t* counts, void* workspace, int threads);

// top_diff [1]: the gradient of what is minimized with respect to the loss.
void multibox_loss_backward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, float* loc_diff, float* conf_diff,
                                int threads);

// The same on a GPU: pointers are device memory, the workspace aligned to 256, all of it ordered on `stream` (a
// cudaStream_t), nothing waited for; fit for capture in a CUDA graph. Decisions are those of the CPU to the bit, sums
// are taken in a fixed order. A label that is not a class cannot be refused in time: its row is passed over, and the
// loss is NaN. Options that multibox_loss_on_gpu denies are not covered. Returns a cudaError_t.
inline bool multibox_loss_on_gpu(const MultiBoxLossOptions& options) {
  return options.mining_type == MiningType::NONE || !(options.nms_threshold > 0.0f);
}

int64_t multibox_loss_workspace_bytes_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options);

int multibox_loss_forward_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                               const float* conf, const float* prior, const float* label, float* loss, int32_t* match,
                               int32_t* counts, void* workspace, void* stream);

int multibox_loss_backward_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, float* loc_diff, float* conf_diff,
                                void* stream);

}  // namespace caffe
