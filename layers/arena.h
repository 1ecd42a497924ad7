// Cutting a caller's workspace into typed arrays.
#pragma once

#include <cstdint>

namespace caffe {

// Hands out aligned arrays from one block, in order. With a null pointer it only counts: run the same sequence of
// `take` calls once to learn the size and once to lay the arrays out.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  template <typename T>
  T* take(int64_t count) {
    // 256 bytes are whole cache lines, and the alignment that CUDA's library needs for its temporary storage.
    used_ = (used_ + 255) / 256 * 256;
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += count * static_cast<int64_t>(sizeof(T));
    return array;
  }

  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

}  // namespace caffe
