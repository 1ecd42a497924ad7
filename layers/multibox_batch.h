// Loops over a batch on its way through MultiBoxLoss on the CPU.
#pragma once

#include <algorithm>
#include <atomic>

#include "multibox_terms.h"
#include "parallel.h"

namespace caffe {

// Calls body(index into the batch's scores) for each target of 1 that an image's matches set.
template <typename Body>
void for_each_target(const MultiBoxBatch& in, int64_t image, const int32_t* match, const Body& body) {
  const int64_t priors = in.sizes.priors;
  for (int k = 0; k < match_classes(in.options); ++k) {
    for (int64_t p = 0; p < priors; ++p) {
      const int32_t row = match[k * priors + p];
      if (row >= 0) body(in.target_offset(image, p, row));
    }
  }
}

// As many threads as there are images to give them, and work worth starting them for.
inline int useful_threads(const MultiBoxLossSizes& sizes, const MultiBoxLossOptions& o, int threads) {
  const int64_t scores = sizes.images * sizes.priors * o.num_classes;
  return static_cast<int>(std::clamp<int64_t>(std::min(sizes.images, 1 + scores / 100000), 1, std::max(threads, 1)));
}

// Calls body(image, slot) for every image; slots are numbered from 0 and used by one thread at a time.
template <typename Body>
void for_each_image(int64_t images, int threads, const Body& body) {
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t image = next++; image < images; image = next++) body(image, static_cast<int>(slot));
    }
  });
}

}  // namespace caffe
