// The gradients of MultiBoxLoss: zero but for the boxes that were chosen.
#include "multibox_batch.h"
#include "vectorize.h"

namespace caffe {
namespace {

CAFFE_VECTORIZE void scaled_sigmoids(const float* scores, int64_t count, float scale, float* gradient) {
  for (int64_t i = 0; i < count; ++i) gradient[i] = sigmoid(scores[i]) * scale;
}

CAFFE_VECTORIZE void gradient_row(ConfLossType type, const float* scores, int num_classes, int target, float scale,
                                  float* gradient) {
  confidence_gradient(type, scores, num_classes, target, scale, gradient);
}

void backward_image(const MultiBoxBatch& in, int64_t image, const int32_t* match, float loc_scale, float conf_scale,
                    float* loc_diff, float* conf_diff) {
  const MultiBoxLossOptions& o = in.options;
  const int64_t priors = in.sizes.priors;
  const int64_t classes = o.num_classes;
  const bool mined = o.mining_type != MiningType::NONE;
  float* loc_begin = loc_diff + in.loc_offset(image, 0, 0);
  std::fill(loc_begin, loc_begin + priors * in.loc_classes() * 4, 0.0f);
  float* conf_begin = conf_diff + image * priors * classes;
  if (mined || !o.with_conf) {
    std::fill(conf_begin, conf_begin + priors * classes, 0.0f);
  } else if (o.conf_loss_type == ConfLossType::LOGISTIC) {
    scaled_sigmoids(in.scores(image), priors * classes, conf_scale, conf_begin);
  }
  const auto add_confidence = [&](int64_t p, int target) {
    gradient_row(o.conf_loss_type, in.scores(image, p), o.num_classes, target, conf_scale, conf_begin + p * classes);
  };
  for (int k = 0; k < match_classes(o); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row >= 0 && o.with_loc) {
        const int64_t c = in.loc_class(k, row);
        const Box error = in.error(image, p, c, row);
        store_box({location_gradient(o.loc_loss_type, error.xmin) * loc_scale,
                   location_gradient(o.loc_loss_type, error.ymin) * loc_scale,
                   location_gradient(o.loc_loss_type, error.xmax) * loc_scale,
                   location_gradient(o.loc_loss_type, error.ymax) * loc_scale},
                  loc_diff + in.loc_offset(image, p, c));
      }
      if (mined && o.with_conf && row != kNotChosen) {
        add_confidence(p, row >= 0 ? target_class(o, in.label_row(row)) : o.background_label_id);
      }
    }
  }
  if (!mined && o.with_conf && o.conf_loss_type == ConfLossType::SOFTMAX) {
    for (int64_t p = 0; p < priors; ++p) {
      int target = o.background_label_id;
      for (int k = 0; k < match_classes(o); ++k) {  // of several classes the last, as in write_targets
        const int32_t row = match[k * priors + p];
        if (row >= 0) target = target_class(o, in.label_row(row));
      }
      add_confidence(p, target);
    }
  }
}

}  // namespace

void multibox_loss_backward_cpu(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& options, const float* loc,
                                const float* conf, const float* prior, const float* label, const int32_t* match,
                                const int32_t* counts, const float* top_diff, int threads, float* loc_diff,
                                float* conf_diff) {
  const MultiBoxBatch in = {sizes, options, loc, conf, prior, label};
  const int64_t matches = match_classes(options) * sizes.priors;
  const float conf_scale = *top_diff / normalizer(options, sizes.images, sizes.priors, counts[0]);
  const float loc_scale = options.loc_weight * conf_scale;
  for_each_image(sizes.images, useful_threads(sizes, options, threads), [&](int64_t image, int) {
    backward_image(in, image, match + image * matches, loc_scale, conf_scale, loc_diff, conf_diff);
  });
  if (targets_by_score(options) && options.with_conf) {
    for (int64_t n = 0; n < sizes.images; ++n) {
      // Several matches may set one target, so the gradient is written, not added to.
      for_each_target(in, n, match + n * matches,
                      [&](int64_t index) { conf_diff[index] = (sigmoid(conf[index]) - 1.0f) * conf_scale; });
    }
  }
}

}  // namespace caffe
