// Numbers and their places as one 64-bit key each, so that ranking is comparing integers: the higher key is the higher
// number, and of equal numbers the lower place. Keys of distinct places are distinct, hence a selection by key does not
// depend on the order in which candidates were gathered, on one thread or a thousand.
#pragma once

#include "float_math.h"

namespace caffe {

// An integer that orders as `x` does, NaN above all others; -0 counts as 0. Never 0.
CAFFE_HOST_DEVICE uint32_t rank_of(float x) {
  if (!(x == x)) return 0xffffffffu;
  const uint32_t bits = static_cast<uint32_t>(float_bits(x + 0.0f));
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// `place` in [0, 2^32).
CAFFE_HOST_DEVICE uint64_t ranked_key(uint32_t rank, uint32_t place) {
  return static_cast<uint64_t>(rank) << 32 | ~place;
}
CAFFE_HOST_DEVICE uint64_t score_key(float score, uint32_t place) { return ranked_key(rank_of(score), place); }

CAFFE_HOST_DEVICE float score_of(uint64_t key) {
  const uint32_t rank = static_cast<uint32_t>(key >> 32);
  return float_from_bits(static_cast<int32_t>(rank & 0x80000000u ? rank & 0x7fffffffu : ~rank));
}

CAFFE_HOST_DEVICE uint32_t place_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

}  // namespace caffe
