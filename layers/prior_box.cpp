#include "prior_box.h"

#include <cmath>

namespace caffe {
namespace {

constexpr float kSame = 1e-6f;

// Whether ratio i (the reciprocals of `flip` included) was listed before it, or is the 1 that comes first.
bool listed_before(const float* ratios, int i, bool flip) {
  if (std::fabs(ratios[i] - 1.0f) < kSame) return true;
  for (int j = 0; j < i; ++j) {
    const float reciprocal = static_cast<float>(1.0 / ratios[j]);
    if (std::fabs(ratios[i] - ratios[j]) < kSame || (flip && std::fabs(ratios[i] - reciprocal) < kSame)) return true;
  }
  return false;
}

}  // namespace

int prior_box_sizes(const float* min_sizes, const float* max_sizes, int num_sizes, const float* ratios, int num_ratios,
                    bool flip, float* sizes) {
  int count = 0;
  const auto add = [&](double width, double height) {
    if (sizes != nullptr) {
      sizes[2 * count] = static_cast<float>(width);
      sizes[2 * count + 1] = static_cast<float>(height);
    }
    ++count;
  };
  for (int s = 0; s < num_sizes; ++s) {
    const double min_size = std::trunc(min_sizes[s]);
    add(min_size, min_size);
    if (max_sizes != nullptr) {
      const double geometric_mean = std::sqrt(min_size * std::trunc(max_sizes[s]));
      add(geometric_mean, geometric_mean);
    }
    for (int r = 0; r < num_ratios; ++r) {
      if (listed_before(ratios, r, flip)) continue;
      const auto add_ratio = [&](float ratio) { add(min_size * std::sqrt(ratio), min_size / std::sqrt(ratio)); };
      add_ratio(ratios[r]);
      if (flip) add_ratio(static_cast<float>(1.0 / ratios[r]));
    }
  }
  return count;
}

void prior_box_cpu(const PriorBoxGrid& grid, const float* sizes, int num_sizes, float* priors) {
  const int64_t boxes = static_cast<int64_t>(grid.layer_height) * grid.layer_width * num_sizes;
  float* box = priors;
  float* variance = priors + 4 * boxes;
  for (int row = 0; row < grid.layer_height; ++row) {
    for (int column = 0; column < grid.layer_width; ++column) {
      for (int s = 0; s < num_sizes; ++s, box += 4, variance += 4) {
        store_box(prior_box_at(grid, row, column, sizes[2 * s], sizes[2 * s + 1]), box);
        for (int i = 0; i < 4; ++i) variance[i] = grid.variance[i];
      }
    }
  }
}

}  // namespace caffe
