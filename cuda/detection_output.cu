// DetectionOutput on the GPU. Three kernels: gather (scores over the threshold, as keys, class by class), suppress (one
// block per image and class: selection, sort, decoding, non-maximum suppression), keep_best (one block per image).
//
// The order in which blocks run decides where candidates are in their lists, and where the kept boxes of a class are
// among those of its image. It does not matter: keys are distinct, and everything that is read from a list is selected
// by key.
#include <cuda_runtime.h>

#include "arena.h"
#include "block.cuh"
#include "detection_output.h"
#include "score_key.h"
#include "select.cuh"

namespace caffe {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kScoresPerThread = 4;      // of gather
constexpr int kSharedCandidates = 1024;  // up to this many candidates of a class stay in shared memory: 28 KiB

// The maximum number of boxes that a class keeps: of more than keep_top_k, the others would not reach the rows.
CAFFE_HOST_DEVICE int most_kept(const DetectionOutputOptions& o) {
  return o.capacity() < o.candidates() ? static_cast<int>(o.capacity()) : o.candidates();
}

struct Workspace {
  int* count;            // num × num_classes: candidates; later the first row of the class
  int* num_kept;         // num × num_classes
  uint32_t* total_kept;  // num: kept boxes of all classes
  uint32_t* first_kept;  // num × num_classes: where the kept boxes of the class start among those of the image
  Key* keys;             // num × num_classes × num_priors: candidates
  Key* kept_keys;        // num × num_classes·most_kept(): one class after another in any order, each best first
  Box* kept_boxes;       // the same
  Key* sorted;           // num × num_classes × padded; this and the rest only if shared memory is too small
  Box* boxes;            // num × num_classes × candidates()
  float* areas;          // the same
};

Workspace workspace_in(const DetectionOutputOptions& o, Arena* arena) {
  const int64_t lists = static_cast<int64_t>(o.num) * o.num_classes, candidates = o.candidates();
  const int64_t spilled = candidates > kSharedCandidates ? lists : 0;
  Workspace w;
  w.count = arena->take<int>(lists);
  w.num_kept = arena->take<int>(lists);
  w.total_kept = arena->take<uint32_t>(o.num);
  w.first_kept = arena->take<uint32_t>(lists);
  w.keys = arena->take<Key>(lists * o.num_priors);
  w.kept_keys = arena->take<Key>(lists * most_kept(o));
  w.kept_boxes = arena->take<Box>(lists * most_kept(o));
  w.sorted = arena->take<Key>(spilled * padded(o.candidates()));
  w.boxes = arena->take<Box>(spilled * candidates);
  w.areas = arena->take<float>(spilled * candidates);
  return w;
}

// Appends the scores over the threshold to the lists of their classes. A block takes a run of scores of one image and
// counts those of each class, reserves room in each list at once, then writes.
__global__ void gather(DetectionOutputOptions o, const float* conf, Workspace w) {
  constexpr uint32_t kScoresPerBlock = kScoresPerThread * kThreads;
  __shared__ int counts[kScoresPerBlock];  // of the classes in the order in which the block meets them
  __shared__ int starts[kScoresPerBlock];
  const int64_t image = blockIdx.y;
  const uint32_t classes = o.num_classes, num_scores = classes * o.num_priors;  // less than 2^32
  const uint32_t first = blockIdx.x * kScoresPerBlock, first_class = first % classes;
  const uint32_t met = min(classes, kScoresPerBlock);
  const float* scores = conf + image * num_scores;
  if (blockIdx.x == 0 && threadIdx.x == 0) w.total_kept[image] = 0;  // suppress adds to it

  // All loads of a thread are under way at once. Past the end: a score that is over no threshold.
  float score[kScoresPerThread];
#pragma unroll
  for (int k = 0; k < kScoresPerThread; ++k) {
    const uint32_t offset = k * kThreads + threadIdx.x;
    score[k] = offset < num_scores - first ? scores[first + offset] : -INFINITY;
  }
  for (uint32_t i = threadIdx.x; i < met; i += kThreads) counts[i] = 0;
  __syncthreads();
  int place[kScoresPerThread];  // among the candidates of its class in this block; -1: not a candidate
#pragma unroll
  for (int k = 0; k < kScoresPerThread; ++k) {
    const uint32_t offset = k * kThreads + threadIdx.x;
    const bool over = score[k] > o.confidence_threshold;
    const bool background = static_cast<int>((first + offset) % classes) == o.background_label_id;
    place[k] = over && !background ? atomicAdd(&counts[offset % classes], 1) : -1;
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < met; i += kThreads) {
    const uint32_t c = (first_class + i) % classes;
    if (counts[i] > 0) starts[i] = atomicAdd(&w.count[image * classes + c], counts[i]);
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kScoresPerThread; ++k) {
    if (place[k] < 0) continue;
    const uint32_t offset = k * kThreads + threadIdx.x;
    const uint32_t p = (first + offset) / classes, c = (first + offset) % classes;
    Key* list = w.keys + (image * classes + c) * o.num_priors;
    list[starts[offset % classes] + place[k]] = score_key(score[k], c * o.num_priors + p);
  }
}

// Greedy non-maximum suppression of `num` boxes, best first: moves those that are kept, at most most_kept(), to the
// front of the arrays, and returns their number. For all threads of a block.
//
// The boxes are taken in tiles, one box per lane. The warps share the comparisons of a tile with the boxes kept before
// it, and of its boxes with each other. What has to be done in order is then little: one warp goes through the bits of
// these comparisons. While eta changes the threshold with each kept box, a tile is a single box.
__device__ int non_maximum_suppression(const DetectionOutputOptions& o, int num, Key* keys, Box* boxes, float* areas) {
  __shared__ unsigned removed_by[kWarps];  // the boxes of the tile that overlap an earlier one, as each warp found
  __shared__ unsigned removes[kWarp];      // the later boxes of the tile that each of its boxes overlaps
  __shared__ int shared_kept;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int most = most_kept(o);
  float threshold = o.nms_threshold;
  int kept = 0;
  for (int first = 0; first < num && kept < most;) {
    const bool falls = o.eta < 1.0f && threshold > 0.5f;  // the threshold falls after the next kept box
    const int tile = falls ? 1 : min(static_cast<int>(kWarp), num - first);
    const int mine = first + min(lane, tile - 1);
    const Key key = keys[mine];
    const Box box = boxes[mine];
    const float box_area = areas[mine];
    const auto overlaps = [&](int other) { return !(overlap(box, box_area, boxes[other], areas[other]) <= threshold); };

    bool removed = false;
    for (int k = warp; k < kept; k += kWarps) removed |= overlaps(k);
    const unsigned removed_lanes = __ballot_sync(kAllLanes, removed);
    if (lane == 0) removed_by[warp] = removed_lanes;
    for (int i = warp; i < tile; i += kWarps) {
      const unsigned later = __ballot_sync(kAllLanes, lane > i && overlaps(first + i));
      if (lane == 0) removes[i] = later;
    }
    __syncthreads();
    if (warp == 0) {
      unsigned stay = kAllLanes >> (kWarp - tile);
#pragma unroll
      for (int i = 0; i < kWarps; ++i) stay &= ~removed_by[i];
#pragma unroll
      for (int i = 0; i < static_cast<int>(kWarp); ++i) {
        const unsigned later = removes[i];  // read in any case, so that no read waits for the bits before it
        stay &= stay >> i & 1 ? ~later : kAllLanes;
      }
      const int place = kept + __popc(stay & ((1u << lane) - 1));
      if (stay >> lane & 1) {
        keys[place] = key;
        boxes[place] = box;
        areas[place] = box_area;
      }
      if (lane == 0) shared_kept = min(kept + __popc(stay), most);
    }
    __syncthreads();
    if (falls && shared_kept > kept) threshold *= o.eta;
    kept = shared_kept;
    first += tile;
  }
  return kept;
}

// The kept boxes of one image and class.
__global__ void suppress(DetectionOutputOptions o, const float* loc, const float* prior, Workspace w) {
  extern __shared__ __align__(16) char shared[];
  const int64_t list = blockIdx.x;
  const int image = blockIdx.x / static_cast<unsigned>(o.num_classes), c = blockIdx.x - image * o.num_classes;
  const int room = o.candidates(), found = w.count[list], num = min(found, room);
  if (num == 0) {
    if (threadIdx.x == 0) w.num_kept[list] = 0;
    return;
  }
  const bool fits = room <= kSharedCandidates;
  Box* boxes = fits ? reinterpret_cast<Box*>(shared) : w.boxes + list * room;
  Key* sorted = fits ? reinterpret_cast<Key*>(boxes + room) : w.sorted + list * padded(room);
  float* areas = fits ? reinterpret_cast<float*>(sorted + padded(room)) : w.areas + list * room;

  const Key* keys = w.keys + list * o.num_priors;
  const int size = padded(num);
  if (found > num) {
    const Key cut = cut_of<kThreads>(keys, found, num);
    __shared__ int filled;
    if (threadIdx.x == 0) filled = 0;
    __syncthreads();
    for_each_key<kThreads>(keys, found, [&](Key key) {
      if (key >= cut) sorted[atomicAdd(&filled, 1)] = key;
    });
  } else {
    for (int i = threadIdx.x; i < num; i += kThreads) sorted[i] = keys[i];
  }
  for (int i = num + threadIdx.x; i < size; i += kThreads) sorted[i] = 0;  // below every key
  __syncthreads();
  sort_descending<kThreads>(sorted, size);

  const int loc_classes = o.share_location ? 1 : o.num_classes;
  for (int i = threadIdx.x; i < num; i += kThreads) {
    const int64_t p = place_of(sorted[i]) - static_cast<uint32_t>(c) * o.num_priors;
    const int64_t code =
        ((image * static_cast<int64_t>(o.num_priors) + p) * loc_classes + (o.share_location ? 0 : c)) * 4;
    boxes[i] = decode(o.code_type, o.variance_encoded_in_target, load_box(prior + p * 4),
                      load_box(prior + (o.num_priors + p) * 4), load_box(loc + code));
    areas[i] = area(boxes[i]);
  }
  __syncthreads();

  const int kept = non_maximum_suppression(o, num, sorted, boxes, areas);
  __shared__ uint32_t first;
  if (threadIdx.x == 0) {
    first = atomicAdd(&w.total_kept[image], static_cast<uint32_t>(kept));
    w.first_kept[list] = first;
    w.num_kept[list] = kept;
  }
  __syncthreads();
  const int64_t start = static_cast<int64_t>(image) * o.num_classes * most_kept(o) + first;
  for (int i = threadIdx.x; i < kept; i += kThreads) {
    w.kept_keys[start + i] = sorted[i];
    w.kept_boxes[start + i] = boxes[i];
  }
}

// The number of keys, in falling order, that are not below `cut`.
__device__ int count_from(const Key* keys, int n, Key cut) {
  int low = 0, high = n;  // keys before `low` are not below, those from `high` on are
  while (low < high) {
    const int middle = (low + high) / 2;
    if (keys[middle] >= cut) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The rows of one image: the keep_top_k best of its kept boxes, class by class.
__global__ void keep_best(DetectionOutputOptions o, Workspace w, float* rows, int32_t* counts) {
  const int image = blockIdx.x;
  const int64_t first_list = static_cast<int64_t>(image) * o.num_classes;
  const Key* keys = w.kept_keys + first_list * most_kept(o);
  const Box* boxes = w.kept_boxes + first_list * most_kept(o);
  const uint32_t* first_kept = w.first_kept + first_list;
  int* num_kept = w.num_kept + first_list;
  int* begin = w.count + first_list;

  const uint32_t total = w.total_kept[image];
  // keep_top_k is not 0: no kernel runs if the capacity is.
  const bool too_many = o.keep_top_k >= 0 && total > static_cast<uint32_t>(o.keep_top_k);
  const Key cut = too_many ? cut_of<kThreads>(keys, total, o.keep_top_k) : 0;
  int count = 0;
  for (int base = 0; base < o.num_classes; base += kThreads) {
    const int c = base + threadIdx.x;
    int mine = c < o.num_classes ? num_kept[c] : 0;
    if (too_many && mine > 0) mine = count_from(keys + first_kept[c], mine, cut);
    int of_these;
    const int before = block_scan<kThreads>(mine, &of_these);
    if (c < o.num_classes) {
      num_kept[c] = mine;
      begin[c] = count + before;
    }
    count += of_these;
  }
  if (threadIdx.x == 0) counts[image] = count;
  __syncthreads();

  const int64_t capacity = o.capacity();
  rows += image * capacity * 7;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int c = warp; c < o.num_classes; c += kWarps) {
    for (int i = lane; i < num_kept[c]; i += kWarp) {
      float* row = rows + static_cast<int64_t>(begin[c] + i) * 7;
      row[0] = static_cast<float>(image);
      row[1] = static_cast<float>(c);
      row[2] = score_of(keys[first_kept[c] + i]);
      store_box(boxes[first_kept[c] + i], row + 3);
    }
  }
  for (int64_t i = count * INT64_C(7) + threadIdx.x; i < capacity * 7; i += kThreads) {
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
  const int64_t scores = static_cast<int64_t>(o.num_priors) * o.num_classes;
  const dim3 grid(blocks_for(scores, kScoresPerThread * kThreads), o.num);
  gather<<<grid, kThreads, 0, queue>>>(o, conf, w);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  const size_t shared =
      room <= kSharedCandidates ? room * (sizeof(Box) + sizeof(float)) + padded(room) * sizeof(Key) : 0;
  suppress<<<lists, kThreads, shared, queue>>>(o, loc, prior, w);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  keep_best<<<o.num, kThreads, 0, queue>>>(o, w, rows, counts);
  return cudaGetLastError();
}

}  // namespace caffe
