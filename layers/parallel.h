// Sharing a loop between threads.
//
// The threads are OpenMP's: PyTorch's own, if the loader finds its library first, which are awake between two layers.
// Starting other threads would take up to a scheduler's tick, as long as the work. Without OpenMP one thread does it
// all.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace caffe {

// Calls body(begin, end) on contiguous, disjoint ranges that together are [0, count), on at most `threads` threads,
// including the caller's; returns when all have ended. Each range has at least `grain` elements, so small loops stay on
// one thread. The body must not throw, and its result for an index must not depend on where the ranges begin.
template <typename Body>
void parallel_for(int64_t count, int threads, int64_t grain, const Body& body) {
  const int64_t shares = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, std::max(threads, 1));
  if (shares == 1) {  // without OpenMP, which a forked process may not be able to start again
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(shares))
  for (int64_t i = 0; i < shares; ++i) body(count * i / shares, count * (i + 1) / shares);
}

// Calls body(index, slot) for every index in [0, count). Each of the `threads` threads takes the next index as it
// becomes free, for work that differs from one to the next. Slots are numbered from 0 to threads - 1; one thread at a
// time uses a slot.
template <typename Body>
void for_each_in_turn(int64_t count, int threads, const Body& body) {
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t index = next++; index < count; index = next++) body(index, static_cast<int>(slot));
    }
  });
}

}  // namespace caffe
