// DetectionOutput on the GPU. Three kernels: gather (scores over the threshold, as keys, class by class), suppress (one
// block per image and class: selection, sort, decoding, non-maximum suppression), keep_best (one block per image).
//
// The places of candidates in their lists depend on the order in which blocks run. That order does not matter: keys are
// distinct, and everything that is read from a list is selected by key.
#include <cuda_runtime.h>

#include "arena.h"
#include "block.cuh"
#include "detection_output.h"
#include "score_key.h"

namespace caffe {
namespace {

using Key = uint64_t;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPriorsPerBlock = 256;     // of gather
constexpr int kClassesPerBlock = 1024;   // of gather: what its counters in shared memory allow
constexpr int kSharedCandidates = 1024;  // up to this many candidates of a class stay in shared memory: 32 KiB

struct Workspace {
  int* count;       // num × num_classes: candidates
  int* num_kept;    // num × num_classes
  Key* keys;        // num × num_classes × num_priors: candidates
  Key* kept_keys;   // num × num_classes × candidates(): best first
  Box* kept_boxes;  // the same
  Key* sorted;      // num × num_classes × padded; this and the rest only if shared memory is too small
  Box* boxes;       // num × num_classes × candidates()
  float* areas;     // the same
  float* overlaps;  // the same
};

// The smallest power of two that is at least `n`: bitonic sort needs lists of such lengths.
CAFFE_HOST_DEVICE int padded(int n) {
  int size = 1;
  while (size < n) size *= 2;
  return size;
}

Workspace workspace_in(const DetectionOutputOptions& o, Arena* arena) {
  const int64_t lists = static_cast<int64_t>(o.num) * o.num_classes, candidates = o.candidates();
  const int64_t spilled = candidates > kSharedCandidates ? lists : 0;
  Workspace w;
  w.count = arena->take<int>(lists);
  w.num_kept = arena->take<int>(lists);
  w.keys = arena->take<Key>(lists * o.num_priors);
  w.kept_keys = arena->take<Key>(lists * candidates);
  w.kept_boxes = arena->take<Box>(lists * candidates);
  w.sorted = arena->take<Key>(spilled * padded(o.candidates()));
  w.boxes = arena->take<Box>(spilled * candidates);
  w.areas = arena->take<float>(spilled * candidates);
  w.overlaps = arena->take<float>(spilled * candidates);
  return w;
}

// Appends the scores over the threshold to the lists of their classes. A block counts those of its priors, reserves
// room in each list at once, then writes.
__global__ void gather(DetectionOutputOptions o, const float* conf, Workspace w) {
  __shared__ int counts[kClassesPerBlock];
  __shared__ int starts[kClassesPerBlock];
  const int image = blockIdx.y;
  const int first_prior = blockIdx.x * kPriorsPerBlock, first_class = blockIdx.z * kClassesPerBlock;
  const int priors = min(kPriorsPerBlock, o.num_priors - first_prior);
  const int classes = min(kClassesPerBlock, o.num_classes - first_class);
  const int64_t first_list = static_cast<int64_t>(image) * o.num_classes + first_class;
  const float* scores = conf + (static_cast<int64_t>(image) * o.num_priors + first_prior) * o.num_classes + first_class;

  for (int c = threadIdx.x; c < classes; c += kThreads) counts[c] = 0;
  __syncthreads();
  for (int pass = 0; pass < 2; ++pass) {
    for (int i = threadIdx.x; i < priors * classes; i += kThreads) {
      const int p = i / classes, c = i - p * classes;
      const float score = scores[static_cast<int64_t>(p) * o.num_classes + c];
      if (!(score > o.confidence_threshold) || first_class + c == o.background_label_id) continue;
      const int place = atomicAdd(&counts[c], 1);
      if (pass == 1) {
        const uint32_t id = static_cast<uint32_t>(first_class + c) * o.num_priors + first_prior + p;
        w.keys[(first_list + c) * o.num_priors + starts[c] + place] = score_key(score, id);
      }
    }
    __syncthreads();
    if (pass == 0) {
      for (int c = threadIdx.x; c < classes; c += kThreads) {
        starts[c] = counts[c] > 0 ? atomicAdd(&w.count[first_list + c], counts[c]) : 0;
        counts[c] = 0;
      }
      __syncthreads();
    }
  }
}

// A key so that exactly `best` of the keys are not below it, 0 < best < their number; for all threads of a block. All
// threads together, `visit` calls its argument once for each key. Eight bits per pass, from the highest.
template <typename Visit>
__device__ Key cut_of(int64_t best, const Visit& visit) {
  __shared__ int histogram[256];
  __shared__ Key shared_prefix;
  __shared__ int64_t shared_rest;
  __shared__ bool shared_done;
  Key prefix = 0, mask = 0;
  int64_t rest = best;  // how many of the keys that start with the prefix to take
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads) histogram[i] = 0;
    __syncthreads();
    visit([&](Key key) {
      if ((key & mask) == prefix) atomicAdd(&histogram[(key >> shift) & 255], 1);
    });
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      while (histogram[digit] < rest) rest -= histogram[digit--];
      shared_prefix = prefix | static_cast<Key>(digit) << shift;
      shared_rest = rest;
      shared_done = histogram[digit] == rest;
    }
    __syncthreads();
    prefix = shared_prefix;
    rest = shared_rest;
    mask |= Key{255} << shift;
    if (shared_done) break;
  }
  __syncthreads();
  return prefix;
}

// Sorts `size` keys, a power of two, highest first; by all threads of a block. Bitonic.
__device__ void sort_descending(Key* keys, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = threadIdx.x; i < size / 2; i += kThreads) {
        const int low = i / step * step * 2 + i % step, high = low + step;
        const Key a = keys[low], b = keys[high];
        const bool descending = (low & run) == 0;
        if ((a < b) == descending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

// The kept boxes of one image and class.
__global__ void suppress(DetectionOutputOptions o, const float* loc, const float* prior, Workspace w) {
  extern __shared__ __align__(16) char shared[];
  const int64_t list = blockIdx.x;
  const int image = static_cast<int>(list / o.num_classes), c = static_cast<int>(list % o.num_classes);
  const int room = o.candidates(), found = w.count[list], num = min(found, room);
  if (num == 0) {
    if (threadIdx.x == 0) w.num_kept[list] = 0;
    return;
  }
  const bool fits = room <= kSharedCandidates;
  Box* boxes = fits ? reinterpret_cast<Box*>(shared) : w.boxes + list * room;
  Key* sorted = fits ? reinterpret_cast<Key*>(boxes + room) : w.sorted + list * padded(room);
  float* areas = fits ? reinterpret_cast<float*>(sorted + padded(room)) : w.areas + list * room;
  float* overlaps = fits ? areas + room : w.overlaps + list * room;

  const Key* keys = w.keys + list * o.num_priors;
  const int size = padded(num);
  if (found > num) {
    const Key cut = cut_of(num, [&](const auto& take) {
      for (int i = threadIdx.x; i < found; i += kThreads) take(keys[i]);
    });
    __shared__ int filled;
    if (threadIdx.x == 0) filled = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < found; i += kThreads) {
      if (keys[i] >= cut) sorted[atomicAdd(&filled, 1)] = keys[i];
    }
  } else {
    for (int i = threadIdx.x; i < num; i += kThreads) sorted[i] = keys[i];
  }
  for (int i = num + threadIdx.x; i < size; i += kThreads) sorted[i] = 0;  // below every key
  __syncthreads();
  sort_descending(sorted, size);

  const int loc_classes = o.share_location ? 1 : o.num_classes;
  for (int i = threadIdx.x; i < num; i += kThreads) {
    const int64_t p = place_of(sorted[i]) - static_cast<uint32_t>(c) * o.num_priors;
    const int64_t code =
        ((image * static_cast<int64_t>(o.num_priors) + p) * loc_classes + (o.share_location ? 0 : c)) * 4;
    boxes[i] = decode(o.code_type, o.variance_encoded_in_target, load_box(prior + p * 4),
                      load_box(prior + (o.num_priors + p) * 4), load_box(loc + code));
    areas[i] = area(boxes[i]);
    overlaps[i] = 0.0f;
  }
  __syncthreads();

  // overlaps[j] is the largest overlap of box j with the kept ones before it. All threads walk along the boxes
  // together; each kept one is compared with those behind it, which are shared between the threads.
  float threshold = o.nms_threshold;
  int kept = 0;
  for (int i = 0; i < num; ++i) {
    if (!(overlaps[i] <= threshold)) continue;
    const Box box = boxes[i];
    const float box_area = areas[i];
    if (threadIdx.x == 0) {
      w.kept_keys[list * room + kept] = sorted[i];
      w.kept_boxes[list * room + kept] = box;
    }
    ++kept;
    for (int j = i + 1 + threadIdx.x; j < num; j += kThreads) {
      overlaps[j] = max_of(overlaps[j], overlap(boxes[j], areas[j], box, box_area));
    }
    if (o.eta < 1.0f && threshold > 0.5f) threshold *= o.eta;
    __syncthreads();
  }
  if (threadIdx.x == 0) w.num_kept[list] = kept;
}

// The rows of one image: the keep_top_k best of its kept boxes, class by class.
__global__ void keep_best(DetectionOutputOptions o, Workspace w, float* rows, int32_t* counts) {
  const int image = blockIdx.x, room = o.candidates();
  const int64_t first_list = static_cast<int64_t>(image) * o.num_classes;
  int* num_kept = w.num_kept + first_list;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;

  int64_t total = 0;
  for (int c = 0; c < o.num_classes; ++c) total += num_kept[c];
  if (o.keep_top_k >= 0 && total > o.keep_top_k) {  // capacity > 0, so keep_top_k is
    const Key cut = cut_of(o.keep_top_k, [&](const auto& take) {
      for (int c = warp; c < o.num_classes; c += kWarps) {
        for (int i = lane; i < num_kept[c]; i += kWarp) take(w.kept_keys[(first_list + c) * room + i]);
      }
    });
    for (int c = threadIdx.x; c < o.num_classes; c += kThreads) {
      const Key* keys = w.kept_keys + (first_list + c) * room;
      int low = 0, high = num_kept[c];  // keys before `low` are kept, those from `high` on are not
      while (low < high) {
        const int middle = (low + high) / 2;
        if (keys[middle] >= cut) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      num_kept[c] = low;
    }
    total = o.keep_top_k;
  }
  // The lists' lengths become the starts of their rows, stored in place of the candidates' counts.
  __syncthreads();
  int* begin = w.count + first_list;
  if (threadIdx.x == 0) {
    int sum = 0;
    for (int c = 0; c < o.num_classes; ++c) {
      begin[c] = sum;
      sum += num_kept[c];
    }
    counts[image] = sum;
  }
  __syncthreads();
  const int64_t capacity = o.capacity();
  rows += image * capacity * 7;
  for (int c = warp; c < o.num_classes; c += kWarps) {
    for (int i = lane; i < num_kept[c]; i += kWarp) {
      float* row = rows + static_cast<int64_t>(begin[c] + i) * 7;
      row[0] = static_cast<float>(image);
      row[1] = static_cast<float>(c);
      row[2] = score_of(w.kept_keys[(first_list + c) * room + i]);
      store_box(w.kept_boxes[(first_list + c) * room + i], row + 3);
    }
  }
  for (int64_t i = total * 7 + threadIdx.x; i < capacity * 7; i += kThreads) {
    rows[i] = i % 7 == 0 ? static_cast<float>(image) : -1.0f;
  }
}

}  // namespace

int64_t detection_output_workspace_bytes_cuda(const DetectionOutputOptions& o) {
  Arena measure(nullptr);
  workspace_in(o, &measure);
  return measure.used();
}

int detection_output_cuda(const DetectionOutputOptions& o, const float* loc, const float* conf, const float* prior,
                          float* rows, int32_t* counts, void* workspace, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  if (o.num == 0) return cudaSuccess;
  if (o.capacity() == 0) return cudaMemsetAsync(counts, 0, o.num * sizeof(int32_t), queue);
  Arena arena(workspace);
  const Workspace w = workspace_in(o, &arena);
  const int lists = o.num * o.num_classes, room = o.candidates();
  cudaError_t error = cudaMemsetAsync(w.count, 0, lists * sizeof(int), queue);
  if (error != cudaSuccess) return error;
  const dim3 grid(blocks_for(o.num_priors, kPriorsPerBlock), o.num, blocks_for(o.num_classes, kClassesPerBlock));
  gather<<<grid, kThreads, 0, queue>>>(o, conf, w);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  const size_t shared =
      room <= kSharedCandidates ? room * (sizeof(Box) + 2 * sizeof(float)) + padded(room) * sizeof(Key) : 0;
  suppress<<<lists, kThreads, shared, queue>>>(o, loc, prior, w);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  keep_best<<<o.num, kThreads, 0, queue>>>(o, w, rows, counts);
  return cudaGetLastError();
}

}  // namespace caffe
