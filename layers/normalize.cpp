#include "normalize.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"

namespace caffe {
namespace {

// Positions processed at a time: all their channels stay in the second-level cache between the two passes.
constexpr int kBlock = 256;
// Fewer elements than this do not justify a thread.
constexpr int64_t kGrain = 1 << 15;

// Sum of term(i) for i in [0, count), in eight interleaved partial sums, which compilers turn into vector code.
template <typename A, typename Term>
A lane_sum(int64_t count, const Term& term) {
  constexpr int kLanes = 8;
  A lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  A sum = 0;
  for (; i < count; ++i) sum += term(i);
  for (A lane : lanes) sum += lane;
  return sum;
}

template <typename T>
struct Normalizer {
  using A = typename Wide<T>::type;

  const NormalizeShape& shape;
  const T* x;
  const A* scale;

  int64_t item_size() const { return shape.channels * shape.positions; }
  A scale_of(int64_t channel) const { return scale[shape.channel_shared ? 0 : channel]; }

  // Calls body(offset in the item, scale) for every element of an item.
  template <typename Body>
  void each_element(const Body& body) const {
    if (shape.channels_last) {
      for (int64_t p = 0; p < shape.positions; ++p) {
        for (int64_t c = 0; c < shape.channels; ++c) body(p * shape.channels + c, scale_of(c));
      }
    } else {
      for (int64_t c = 0; c < shape.channels; ++c) {
        const A s = scale_of(c);
        for (int64_t p = 0; p < shape.positions; ++p) body(c * shape.positions + p, s);
      }
    }
  }

  // ---- forward

  void forward_item(int64_t item, T* y, A* norm) const {
    const T* in = x + item * item_size();
    T* out = y + item * item_size();
    const A sum = lane_sum<A>(item_size(), [in](int64_t i) { return widen(in[i]) * widen(in[i]); });
    norm[item] = std::sqrt(sum + static_cast<A>(shape.eps));
    const A inverse = A(1) / norm[item];
    each_element([&](int64_t i, A s) { narrow(widen(in[i]) * inverse * s, out + i); });
  }

  // One position, its channels adjacent.
  void forward_position(int64_t position, T* y, A* norm) const {
    const int64_t channels = shape.channels;
    const T* in = x + position * channels;
    T* out = y + position * channels;
    const A sum = lane_sum<A>(channels, [in](int64_t c) { return widen(in[c]) * widen(in[c]); });
    norm[position] = std::sqrt(sum + static_cast<A>(shape.eps));
    const A inverse = A(1) / norm[position];
    if (shape.channel_shared) {
      for (int64_t c = 0; c < channels; ++c) narrow(widen(in[c]) * inverse * scale[0], out + c);
    } else {
      for (int64_t c = 0; c < channels; ++c) narrow(widen(in[c]) * inverse * scale[c], out + c);
    }
  }

  // Up to kBlock positions of one item, the positions of a channel adjacent.
  void forward_block(int64_t item, int64_t first, int count, T* y, A* norm) const {
    const int64_t offset = item * item_size() + first;
    A sum[kBlock] = {};
    for (int64_t c = 0; c < shape.channels; ++c) {
      const T* row = x + offset + c * shape.positions;
      for (int p = 0; p < count; ++p) sum[p] += widen(row[p]) * widen(row[p]);
    }
    A* norms = norm + item * shape.positions + first;
    A inverse[kBlock];
    for (int p = 0; p < count; ++p) {
      norms[p] = std::sqrt(sum[p] + static_cast<A>(shape.eps));
      inverse[p] = A(1) / norms[p];
    }
    for (int64_t c = 0; c < shape.channels; ++c) {
      const T* row = x + offset + c * shape.positions;
      T* out = y + offset + c * shape.positions;
      const A s = scale_of(c);
      for (int p = 0; p < count; ++p) narrow(widen(row[p]) * inverse[p] * s, out + p);
    }
  }

  // ---- gradient with respect to x

  void backward_item(int64_t item, const T* dy, const A* norm, T* dx) const {
    const T* in = x + item * item_size();
    const T* grad = dy + item * item_size();
    T* out = dx + item * item_size();
    const A dot = lane_sum<A>(item_size(), [in, grad](int64_t i) { return widen(in[i]) * widen(grad[i]); });
    const A inverse = A(1) / norm[item];
    const A share = dot * inverse * inverse;
    each_element([&](int64_t i, A s) { narrow((widen(grad[i]) - widen(in[i]) * share) * inverse * s, out + i); });
  }

  void backward_position(int64_t position, const T* dy, const A* norm, T* dx) const {
    const int64_t channels = shape.channels;
    const T* in = x + position * channels;
    const T* grad = dy + position * channels;
    T* out = dx + position * channels;
    const A dot = lane_sum<A>(channels, [in, grad](int64_t c) { return widen(in[c]) * widen(grad[c]); });
    const A inverse = A(1) / norm[position];
    const A share = dot * inverse * inverse;
    for (int64_t c = 0; c < channels; ++c) {
      narrow((widen(grad[c]) - widen(in[c]) * share) * inverse * scale_of(c), out + c);
    }
  }

  void backward_block(int64_t item, int64_t first, int count, const T* dy, const A* norm, T* dx) const {
    const int64_t offset = item * item_size() + first;
    A share[kBlock] = {};
    for (int64_t c = 0; c < shape.channels; ++c) {
      const int64_t row = offset + c * shape.positions;
      for (int p = 0; p < count; ++p) share[p] += widen(x[row + p]) * widen(dy[row + p]);
    }
    A inverse[kBlock];
    for (int p = 0; p < count; ++p) {
      inverse[p] = A(1) / norm[item * shape.positions + first + p];
      share[p] *= inverse[p] * inverse[p];
    }
    for (int64_t c = 0; c < shape.channels; ++c) {
      const int64_t row = offset + c * shape.positions;
      const A s = scale_of(c);
      for (int p = 0; p < count; ++p) {
        narrow((widen(dy[row + p]) - widen(x[row + p]) * share[p]) * inverse[p] * s, dx + row + p);
      }
    }
  }

  // ---- gradient with respect to the scale, one sum per channel

  void scale_sums(int64_t begin, int64_t end, const T* dy, const A* norm, double* sums) const {
    std::fill(sums + begin, sums + end, 0.0);
    for (int64_t item = 0; item < shape.items; ++item) {
      const T* in = x + item * item_size();
      const T* grad = dy + item * item_size();
      if (shape.channels_last) {
        for (int64_t p = 0; p < shape.positions; ++p) {
          const A inverse = A(1) / norm[shape.across_spatial ? item : item * shape.positions + p];
          const int64_t row = p * shape.channels;
          for (int64_t c = begin; c < end; ++c) sums[c] += widen(grad[row + c]) * widen(in[row + c]) * inverse;
        }
        continue;
      }
      for (int64_t c = begin; c < end; ++c) {
        const T* a = in + c * shape.positions;
        const T* b = grad + c * shape.positions;
        if (shape.across_spatial) {
          sums[c] += lane_sum<A>(shape.positions, [=](int64_t p) { return widen(a[p]) * widen(b[p]); }) / norm[item];
        } else {
          const A* norms = norm + item * shape.positions;
          sums[c] += lane_sum<A>(shape.positions, [=](int64_t p) { return widen(a[p]) * widen(b[p]) / norms[p]; });
        }
      }
    }
  }

  // Runs over groups: `item`, `position` or `block` of each, as the shape needs, shared between threads.
  template <typename Item, typename Position, typename Block>
  void each_group(int threads, const Item& on_item, const Position& on_position, const Block& on_block) const {
    if (shape.across_spatial) {
      const int64_t grain = kGrain / std::max<int64_t>(item_size(), 1) + 1;
      parallel_for(shape.items, threads, grain, [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item) on_item(item);
      });
    } else if (shape.channels_last) {
      const int64_t grain = kGrain / std::max<int64_t>(shape.channels, 1) + 1;
      parallel_for(shape.items * shape.positions, threads, grain, [&](int64_t begin, int64_t end) {
        for (int64_t position = begin; position < end; ++position) on_position(position);
      });
    } else {
      const int64_t blocks = (shape.positions + kBlock - 1) / kBlock;
      const int64_t grain = kGrain / std::max<int64_t>(shape.channels * kBlock, 1) + 1;
      parallel_for(shape.items * blocks, threads, grain, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
          const int64_t first = block % blocks * kBlock;
          on_block(block / blocks, first, static_cast<int>(std::min<int64_t>(kBlock, shape.positions - first)));
        }
      });
    }
  }
};

template <typename T>
void forward(const NormalizeShape& shape, const void* x, const void* scale, void* y, void* norm, int threads) {
  using A = typename Wide<T>::type;
  const Normalizer<T> run{shape, static_cast<const T*>(x), static_cast<const A*>(scale)};
  T* const out = static_cast<T*>(y);
  A* const norms = static_cast<A*>(norm);
  run.each_group(
      threads, [&](int64_t item) { run.forward_item(item, out, norms); },
      [&](int64_t position) { run.forward_position(position, out, norms); },
      [&](int64_t item, int64_t first, int count) { run.forward_block(item, first, count, out, norms); });
}

template <typename T>
void backward(const NormalizeShape& shape, const void* x, const void* dy, const void* scale, const void* norm, void* dx,
              void* dscale, void* workspace, int threads) {
  using A = typename Wide<T>::type;
  const Normalizer<T> run{shape, static_cast<const T*>(x), static_cast<const A*>(scale)};
  const T* const grad = static_cast<const T*>(dy);
  const A* const norms = static_cast<const A*>(norm);
  T* const out = static_cast<T*>(dx);
  run.each_group(
      threads, [&](int64_t item) { run.backward_item(item, grad, norms, out); },
      [&](int64_t position) { run.backward_position(position, grad, norms, out); },
      [&](int64_t item, int64_t first, int count) { run.backward_block(item, first, count, grad, norms, out); });

  double* const sums = static_cast<double*>(workspace);
  const int64_t grain = kGrain / std::max<int64_t>(shape.items * shape.positions, 1) + 1;
  parallel_for(shape.channels, threads, grain,
               [&](int64_t begin, int64_t end) { run.scale_sums(begin, end, grad, norms, sums); });
  A* const result = static_cast<A*>(dscale);
  if (shape.channel_shared) {
    double total = 0;
    for (int64_t c = 0; c < shape.channels; ++c) total += sums[c];
    result[0] = static_cast<A>(total);
  } else {
    for (int64_t c = 0; c < shape.channels; ++c) result[c] = static_cast<A>(sums[c]);
  }
}

}  // namespace

void normalize_forward_cpu(Scalar type, const NormalizeShape& shape, const void* x, const void* scale, void* y,
                           void* norm, int threads) {
  const auto run = type == Scalar::FLOAT32   ? forward<float>
                   : type == Scalar::FLOAT64 ? forward<double>
                                             : forward<BFloat16>;
  run(shape, x, scale, y, norm, threads);
}

void normalize_backward_cpu(Scalar type, const NormalizeShape& shape, const void* x, const void* dy, const void* scale,
                            const void* norm, void* dx, void* dscale, void* workspace, int threads) {
  const auto run = type == Scalar::FLOAT32   ? backward<float>
                   : type == Scalar::FLOAT64 ? backward<double>
                                             : backward<BFloat16>;
  run(shape, x, dy, scale, norm, dx, dscale, workspace, threads);
}

int64_t normalize_backward_workspace_bytes(const NormalizeShape& shape) {
  return static_cast<int64_t>(sizeof(double)) * shape.channels * normalize_scale_slices(shape);
}

}  // namespace caffe
