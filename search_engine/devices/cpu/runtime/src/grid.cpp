// Launches: the blocks of a grid one after the other, or all alive at once (cooperative), with
// shared memory that each block has to itself.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "runtime.h"

extern "C" {
extern simt::Dim simt_block_index, simt_block_size, simt_grid_size;
extern unsigned char simt_dynamic_shared[];
}

namespace simt {

// --- shared memory ---------------------------------------------------------------------------

static size_t shared_size() {
  size_t size = launch->shared_bytes;
  for (size_t i = 0; i < variable_count; ++i)
    if (variables[i].shared) size += variables[i].end - variables[i].begin;
  return size;
}

template <class F>
static void each_shared(F visit) {
  if (launch->shared_bytes) visit(simt_dynamic_shared, launch->shared_bytes);
  for (size_t i = 0; i < variable_count; ++i)
    if (variables[i].shared)
      visit((unsigned char*)variables[i].begin, variables[i].end - variables[i].begin);
}

// All bits set is NaN in every floating type: a read before a write shows in the result.
static void poison_shared() {
  each_shared([](unsigned char* begin, size_t size) { memset(begin, 0xff, size); });
}

static void save_shared(unsigned char* copy) {
  each_shared([&](unsigned char* begin, size_t size) {
    memcpy(copy, begin, size);
    copy += size;
  });
}

static void restore_shared(const unsigned char* copy) {
  each_shared([&](unsigned char* begin, size_t size) {
    memcpy(begin, copy, size);
    copy += size;
  });
}

// --- blocks ------------------------------------------------------------------------------------

static void* allocate(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fprintf(stderr, "no memory for blocks\n");
    _exit(3);
  }
  return memory;
}

static size_t block_bytes(uint32_t threads) {
  return sizeof(Block) + threads * sizeof(Thread) + (threads + 31) / 32 * sizeof(Warp);
}

static Block* make_block(void* memory, uint32_t threads) {
  Block* b = (Block*)memory;
  b->threads = (Thread*)(b + 1);
  b->thread_count = threads;
  b->warp_count = (threads + 31) / 32;
  b->warps = (Warp*)(b->threads + threads);
  for (uint32_t i = 0; i < threads; ++i) {
    const Dim& size = launch->block;
    b->threads[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    b->threads[i].stack = -1;
  }
  return b;
}

static void free_block(Block* b) {
  for (uint32_t i = 0; i < b->thread_count; ++i) free_copies(b->threads[i]);
}

static void enter_block(Block* b) {
  block = b;
  simt_block_index = b->index;
}

static void reset_block(Block* b, uint64_t linear) {
  b->linear = linear;
  const Dim& grid = launch->grid;
  b->index = {(uint32_t)(linear % grid.x), (uint32_t)(linear / grid.x % grid.y),
              (uint32_t)(linear / grid.x / grid.y)};
  for (uint32_t i = 0; i < b->thread_count; ++i) {
    b->threads[i].state = READY;
    forget_copies(b->threads[i]);
  }
}

static void begin_slice(bool first_time) {
  if (mode == Mode::check) check_block_begin(first_time);
  if (mode == Mode::count && first_time) count_block_begin();
}

static void run_independent(uint32_t threads) {
  size_t bytes = block_bytes(threads);
  Block* b = make_block(allocate(bytes), threads);
  for (uint64_t i = 0; i < launch->block_count && !stopped; ++i) {
    reset_block(b, launch->blocks ? launch->blocks[i] : i);
    enter_block(b);
    poison_shared();
    begin_slice(true);
    run_block();
    if (mode != Mode::count) continue;
    count_block_end();
    if (count_enough()) break;
  }
  block = nullptr;
  free_block(b);
  munmap(b, bytes);
}

// All blocks are alive at once; each runs to the grid's barrier in turn.
static void run_cooperative(uint32_t threads) {
  size_t each = (block_bytes(threads) + 63) & ~(size_t)63, shared = shared_size();
  size_t bytes = each * launch->block_count, copies = shared * launch->block_count + 1;
  unsigned char* memory = (unsigned char*)allocate(bytes);
  unsigned char* saved = (unsigned char*)allocate(copies);
  for (uint64_t i = 0; i < launch->block_count; ++i) {
    Block* b = make_block(memory + i * each, threads);
    reset_block(b, launch->blocks ? launch->blocks[i] : i);
    b->saved_shared = saved + i * shared;
  }
  bool first_time = true;
  for (uint64_t alive = launch->block_count; alive && !stopped; first_time = false) {
    uint64_t waiting = 0, ended = 0;
    int line = 0;
    for (uint64_t i = 0; i < launch->block_count && !stopped; ++i) {
      Block* b = (Block*)(memory + i * each);
      if (b->after_grid_barrier && b->threads[0].state == DONE) continue;
      enter_block(b);
      if (first_time) poison_shared();
      else restore_shared(b->saved_shared);
      begin_slice(first_time);
      bool has_ended = run_block();
      if (mode == Mode::count) count_block_end();
      if (has_ended) {
        ++ended;
      } else {
        line = b->threads[0].line;
        for (uint32_t t = 0; t < threads; ++t)
          if (b->threads[t].state == AT_GRID) line = b->threads[t].line, b->threads[t].state = READY;
        ++waiting;
        save_shared(b->saved_shared);
      }
      b->after_grid_barrier = true;
    }
    if (waiting && ended && !stopped) {
      report("divergent-barrier", "not all blocks reach the grid's barrier", 0, line);
      stopped = true;
    }
    alive = waiting;
    if (mode == Mode::check && waiting) check_launch_begin();
  }
  block = nullptr;
  for (uint64_t i = 0; i < launch->block_count; ++i) free_block((Block*)(memory + i * each));
  munmap(memory, bytes);
  munmap(saved, copies);
}

void run_launch(Launch& what) {
  launch = &what;
  simt_grid_size = what.grid;
  simt_block_size = what.block;
  if (mode == Mode::check) check_launch_begin();
  if (mode == Mode::count) count_launch_begin();
  uint32_t threads = (uint32_t)what.block.count();
  if (what.cooperative) run_cooperative(threads);
  else run_independent(threads);
  if (mode == Mode::check) check_launch_end();
  if (mode == Mode::count) count_launch_end();
  thread = nullptr;
}

}  // namespace simt
