// Sharing a loop between threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace caffe {

// Calls body(begin, end) on contiguous, disjoint ranges that together are [0, count), on at most `threads` threads, the
// caller's among them; returns when all have ended. Shares hold at least `grain` elements, so small loops stay on one
// thread. The body must not throw, and what it computes for an index must not depend on where the ranges begin.
template <typename Body>
void parallel_for(int64_t count, int threads, int64_t grain, const Body& body) {
  const int64_t shares = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, std::max(threads, 1));
  if (shares == 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  std::vector<std::thread> others;
  others.reserve(shares - 1);
  for (int64_t i = 1; i < shares; ++i) {
    others.emplace_back([&body, i, count, shares] { body(count * i / shares, count * (i + 1) / shares); });
  }
  body(int64_t{0}, count / shares);
  for (std::thread& other : others) other.join();
}

}  // namespace caffe
