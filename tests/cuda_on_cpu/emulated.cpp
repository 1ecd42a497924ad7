// The scheduler of the emulated device: fibers for the threads of one block at a time.
#include <sys/mman.h>
#include <ucontext.h>

#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

namespace emulated {

dim3 thread_index, block_index, block_size, grid_size;
uint64_t seed = 0;
cudaError_t last_error = cudaSuccess;

namespace {

constexpr size_t kStack = 64 * 1024;
constexpr size_t kMaxThreads = 1024, kMaxShared = 99 * 1024;

struct Fiber {
  ucontext_t context;
  dim3 index;
  Wait waits = Wait::NONE;
  bool done = false;
};

std::vector<Fiber> fibers;
std::vector<uint64_t> lane_values;
std::vector<char> shared_memory;
std::unique_ptr<char[]> stacks;
ucontext_t scheduler;
size_t current;
const std::function<void()>* running;

void run_fiber() {
  (*running)();
  fibers[current].done = true;
  swapcontext(&fibers[current].context, &scheduler);
}

// Frees the fibers in [begin, end) if all that live wait for `what`; whether it freed any.
bool release(size_t begin, size_t end, Wait what) {
  bool any = false;
  for (size_t i = begin; i < end; ++i) {
    if (fibers[i].done) continue;
    if (fibers[i].waits != what) return false;
    any = true;
  }
  for (size_t i = begin; i < end; ++i) fibers[i].waits = Wait::NONE;
  return any;
}

void run_block(std::mt19937_64& random) {
  const size_t count = fibers.size();
  for (size_t i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    fiber.done = false;
    fiber.waits = Wait::NONE;
    fiber.index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.get() + i * kStack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
  }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  // About a quarter of the warps pause until no other can go on. So warps get ahead of others as far as the barriers of
  // the block let them, and a barrier that is missing, or is one of a warp only, shows.
  uint64_t paused = seed != 0 ? random() & random() : 0;
  for (size_t left = count; left > 0;) {
    if (seed != 0) std::shuffle(order.begin(), order.end(), random);
    bool progress = false, ran = false;
    for (size_t i : order) {
      if (fibers[i].done || fibers[i].waits != Wait::NONE) continue;
      progress = true;
      if (paused >> (i / 32) & 1) continue;
      ran = true;
      current = i;
      thread_index = fibers[i].index;
      swapcontext(&scheduler, &fibers[i].context);
      left -= fibers[i].done;
    }
    if (seed != 0 && !ran) paused = random() & random();
    for (size_t warp = 0; warp < count; warp += 32) progress |= release(warp, std::min(warp + 32, count), Wait::WARP);
    progress |= release(0, count, Wait::BLOCK);
    if (left > 0 && !progress) {
      fprintf(stderr, "emulated device: some threads of a block wait at a barrier that the others never reach\n");
      abort();
    }
  }
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (grid.x * grid.y * grid.z == 0 || threads == 0 || threads > kMaxThreads || shared_bytes > kMaxShared ||
      grid.y > 65535 || grid.z > 65535) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  if (!stacks) stacks.reset(new char[kMaxThreads * kStack]);
  fibers.resize(threads);
  lane_values.assign(threads + 32, 0);
  running = &kernel;
  block_size = block;
  grid_size = grid;
  std::mt19937_64 random(seed);
  std::vector<unsigned> blocks(size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  if (seed != 0) std::shuffle(blocks.begin(), blocks.end(), random);
  for (unsigned b : blocks) {
    block_index = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
    shared_memory.assign(shared_bytes + 16, static_cast<char>(0xa5));  // never what a kernel forgot to write
    run_block(random);
  }
}

char* dynamic_shared() {
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(shared_memory.data()) + 15) / 16 * 16);
}

void wait(Wait what) {
  fibers[current].waits = what;
  swapcontext(&fibers[current].context, &scheduler);
}

uint64_t* lanes() { return lane_values.data() + current / 32 * 32; }

unsigned lane() { return current % 32; }

bool lane_lives(unsigned lane) {
  const size_t i = current / 32 * 32 + lane;
  return i < fibers.size() && !fibers[i].done;
}

}  // namespace emulated
