// MultiBoxLoss on the GPU: the kernels of matching.cuh and mining.cuh, losses and gradients, in order on one stream.
#include <cuda_runtime.h>

#include "mining.cuh"
#include "multibox_loss.h"

namespace caffe {
namespace {

unsigned blocks_of(int64_t priors) { return blocks_for(priors, kThreads); }

// Arrays that must start as zeros come first, so that one call clears them; returns their size in bytes.
int64_t take_workspace(Arena& arena, DeviceBatch& b) {
  const int64_t units = b.sizes.images * match_classes(b.options);
  const int64_t boxes = units * b.sizes.priors;
  b.bad_label = arena.take<int32_t>(1);
  b.positives = arena.take<int32_t>(units);
  if (targets_by_score(b.options))
    b.targets = arena.take<uint8_t>(b.sizes.images * b.sizes.priors * b.options.num_classes);
  const int64_t cleared = arena.used();
  b.first = arena.take<int32_t>(b.sizes.images + 1);
  b.truth_row = arena.take<int32_t>(b.sizes.labels);
  b.truth = arena.take<Box>(b.sizes.labels);
  b.truth_area = arena.take<float>(b.sizes.labels);
  b.truth_best = arena.take<unsigned long long>(b.sizes.labels);
  if (!b.options.use_prior_for_matching) b.decoded = arena.take<Box>(boxes);
  b.best_overlap = arena.take<float>(boxes);
  b.best_truth = arena.take<int32_t>(boxes);
  if (b.options.mining_type != MiningType::NONE) b.rank = arena.take<uint32_t>(boxes);
  b.partials = arena.take<PartialLoss>(b.sizes.images * blocks_of(b.sizes.priors));
  return cleared;
}

__global__ void mark_targets(DeviceBatch b) {
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t unit = blockIdx.y;
  if (p >= b.sizes.priors) return;
  const int32_t row = b.match[b.at(unit, p)];
  if (row >= 0) b.targets[b.target_offset(unit / b.classes(), p, row)] = 1;
}

__device__ PartialLoss sum_over_block(const PartialLoss& x) {
  return {block_sum<kThreads>(x.loc), block_sum<kThreads>(x.conf), block_sum<kThreads>(x.positives),
          block_sum<kThreads>(x.negatives)};
}

// One thread per prior of an image.
__global__ void add_losses(DeviceBatch b) {
  const MultiBoxLossOptions& o = b.options;
  const int64_t image = blockIdx.y;
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  PartialLoss sum = {0.0, 0.0, 0, 0};
  if (p < b.sizes.priors) {
    const float* scores = b.scores(image, p);
    for (int k = 0; k < b.classes(); ++k) {
      const int32_t row = b.match[b.at(image * b.classes() + k, p)];
      if (row == kNotChosen) continue;
      if (row >= 0) {
        ++sum.positives;
        sum.loc += location_loss(o.loc_loss_type, b.error(image, p, b.loc_class(k, row), row));
      } else {
        ++sum.negatives;
      }
      if (o.mining_type != MiningType::NONE) {
        sum.conf += confidence_loss(o.conf_loss_type, scores, o.num_classes, b.target(row));
      }
    }
    if (targets_by_score(o)) {
      const uint8_t* targets = b.targets + b.at(image, p) * o.num_classes;
      for (int c = 0; c < o.num_classes; ++c) sum.conf += logistic_loss(scores[c], targets[c] != 0);
    } else if (o.mining_type == MiningType::NONE) {
      sum.conf += softmax_loss(scores, o.num_classes, b.target(b.match + b.at(image * b.classes(), 0), p));
    }
  }
  const PartialLoss total = sum_over_block(sum);
  if (threadIdx.x == 0) b.partials[image * gridDim.x + blockIdx.x] = total;
}

// One block.
__global__ void finish_loss(DeviceBatch b, int64_t partials, float* loss, int32_t* counts) {
  PartialLoss sum = {0.0, 0.0, 0, 0};
  for (int64_t i = threadIdx.x; i < partials; i += kThreads) {
    sum.loc += b.partials[i].loc;
    sum.conf += b.partials[i].conf;
    sum.positives += b.partials[i].positives;
    sum.negatives += b.partials[i].negatives;
  }
  const PartialLoss total = sum_over_block(sum);
  if (threadIdx.x != 0) return;
  const MultiBoxLossOptions& o = b.options;
  const double by = normalizer(o, b.sizes.images, b.sizes.priors, total.positives);
  *loss = *b.bad_label ? float_from_bits(0x7fc00000) : total_loss(o, total.loc, total.conf, by);
  counts[0] = total.positives;
  counts[1] = total.negatives;
}

struct Gradients {
  MultiBoxBatch batch;
  const int32_t* match;
  const int32_t* counts;
  const float* top_diff;
  float* loc_diff;
  float* conf_diff;

  __device__ float conf_scale() const {
    return *top_diff / normalizer(batch.options, batch.sizes.images, batch.sizes.priors, counts[0]);
  }
};

// One thread per prior of an image. Everything else is already zero.
__global__ void write_gradients(Gradients g) {
  const MultiBoxBatch& b = g.batch;
  const MultiBoxLossOptions& o = b.options;
  const int64_t image = blockIdx.y;
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (p >= b.sizes.priors) return;
  const float conf_scale = g.conf_scale();
  const float loc_scale = o.loc_weight * conf_scale;
  const float* scores = b.scores(image, p);
  float* conf_diff = g.conf_diff + (scores - b.conf);
  const bool mined = o.mining_type != MiningType::NONE;
  const int classes = match_classes(o);
  const int32_t* match = g.match + image * classes * b.sizes.priors;
  for (int k = 0; k < classes; ++k) {
    const int32_t row = match[k * b.sizes.priors + p];
    if (row >= 0 && o.with_loc) {
      const int64_t c = b.loc_class(k, row);
      store_box(location_gradient(o.loc_loss_type, b.error(image, p, c, row), loc_scale),
                g.loc_diff + b.loc_offset(image, p, c));
    }
    if (mined && o.with_conf && row != kNotChosen) {
      confidence_gradient(o.conf_loss_type, scores, o.num_classes, b.target(row), conf_scale, conf_diff);
    }
  }
  if (mined || !o.with_conf) return;
  if (o.conf_loss_type == ConfLossType::SOFTMAX) {
    softmax_gradient(scores, o.num_classes, b.target(match, p), conf_scale, conf_diff);
  } else {
    for (int c = 0; c < o.num_classes; ++c) conf_diff[c] = sigmoid(scores[c]) * conf_scale;
  }
}

// LOGISTIC without mining, after write_gradients: several matches may set one target, so it is written, not added to.
__global__ void write_target_gradients(Gradients g) {
  const MultiBoxBatch& b = g.batch;
  const int64_t unit = blockIdx.y;
  const int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (p >= b.sizes.priors) return;
  const int32_t row = g.match[unit * b.sizes.priors + p];
  if (row < 0) return;
  const int64_t at = b.target_offset(unit / match_classes(b.options), p, row);
  g.conf_diff[at] = (sigmoid(b.conf[at]) - 1.0f) * g.conf_scale();
}

}  // namespace

int64_t multibox_loss_workspace_bytes_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options) {
  Arena counter(nullptr);
  DeviceBatch b = {};
  b.sizes = sizes;
  b.options = options;
  take_workspace(counter, b);
  return counter.used();
}

int multibox_loss_forward_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                               const float* conf, const float* prior, const float* label, float* loss, int32_t* match,
                               int32_t* counts, void* workspace, void* stream) {
  if (!multibox_loss_on_gpu(options)) return cudaErrorNotSupported;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  DeviceBatch b = {};
  b.sizes = sizes;
  b.options = options;
  b.loc = loc;
  b.conf = conf;
  b.prior = prior;
  b.label = label;
  b.match = match;
  Arena arena(workspace);
  const int64_t cleared = take_workspace(arena, b);
  if (const cudaError_t error = cudaMemsetAsync(workspace, 0, cleared, s)) return error;
  const unsigned images = static_cast<unsigned>(sizes.images);
  const unsigned units = images * match_classes(options);
  const unsigned columns = blocks_of(sizes.priors);
  const bool any = images > 0 && columns > 0;
  if (any) {
    const dim3 by_unit(columns, units), by_image(columns, images);
    group_truths<<<images, kThreads, 0, s>>>(b);
    if (!options.use_prior_for_matching) decode_predictions<<<by_unit, kThreads, 0, s>>>(b);
    meet_truths<<<by_unit, kThreads, 0, s>>>(b);
    match_bipartite<<<units, kWideThreads, 0, s>>>(b);
    finish_matches<<<by_unit, kThreads, 0, s>>>(b);
    if (options.mining_type != MiningType::NONE) choose_examples<<<images, kSelectThreads, 0, s>>>(b);
    if (targets_by_score(options)) mark_targets<<<by_unit, kThreads, 0, s>>>(b);
    add_losses<<<by_image, kThreads, 0, s>>>(b);
  }
  finish_loss<<<1, kThreads, 0, s>>>(b, any ? static_cast<int64_t>(images) * columns : 0, loss, counts);
  return cudaGetLastError();
}

int multibox_loss_backward_cuda(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, float* loc_diff, float* conf_diff,
                                void* stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const Gradients g = {{sizes, options, loc, conf, prior, label}, match, counts, top_diff, loc_diff, conf_diff};
  const int64_t boxes = sizes.images * sizes.priors;
  if (boxes == 0) return cudaSuccess;
  if (const cudaError_t error = cudaMemsetAsync(loc_diff, 0, boxes * g.batch.loc_classes() * 4 * sizeof(float), s)) {
    return error;
  }
  if (const cudaError_t error = cudaMemsetAsync(conf_diff, 0, boxes * options.num_classes * sizeof(float), s)) {
    return error;
  }
  const unsigned images = static_cast<unsigned>(sizes.images);
  const unsigned columns = blocks_of(sizes.priors);
  write_gradients<<<dim3(columns, images), kThreads, 0, s>>>(g);
  if (targets_by_score(options) && options.with_conf) {
    write_target_gradients<<<dim3(columns, images * match_classes(options)), kThreads, 0, s>>>(g);
  }
  return cudaGetLastError();
}

}  // namespace caffe
