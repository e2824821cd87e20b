// Threads as fibers: stacks, and who runs next.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "context.h"
#include "shadow.h"

// The built-in variables, constant as kernels see them; in one section, so that reads of them
// (which clang reports and gcc does not) are known.
#define BUILTIN __attribute__((section("simt_builtins")))
extern "C" {
BUILTIN simt::Dim simt_thread_index, simt_block_index, simt_block_size, simt_grid_size;
BUILTIN int simt_lane;
BUILTIN bool simt_hooked;
extern const unsigned char __start_simt_builtins[], __stop_simt_builtins[];
alignas(1024) unsigned char simt_dynamic_shared[simt::MAX_DYNAMIC_SHARED];
}

namespace simt {

// --- stacks ----------------------------------------------------------------------------

static unsigned char* stacks;
static size_t stack_size, stacks_made, stack_most;
static int* free_stacks;
static size_t free_count;
static void* scheduler_pointer;
static constexpr size_t GUARD = 4096;

void scheduler_start(uint64_t most_threads) {
  stack_most = most_threads;
  stack_size = most_threads <= 2048 ? 256 * 1024 : 64 * 1024;
  stacks = (unsigned char*)mmap(nullptr, stack_most * stack_size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  free_stacks = (int*)calloc(stack_most, sizeof(int));
  if (stacks == MAP_FAILED || !free_stacks) {
    fprintf(stderr, "no memory for %zu stacks\n", stack_most);
    _exit(3);
  }
}

static int take_stack() {
  if (free_count) return free_stacks[--free_count];
  // Lowest page of each is a guard; past the kernel's usual limit of 65,530 mappings
  // stacks go without.
  if (stacks_made < 30000) mprotect(stacks + stacks_made * stack_size, GUARD, PROT_NONE);
  return (int)stacks_made++;
}

bool on_guard_page(uintptr_t address) {
  uintptr_t base = (uintptr_t)stacks;
  if (address < base || address >= base + stacks_made * stack_size) return false;
  return (address - base) % stack_size < GUARD;
}

bool is_builtin(uintptr_t address) {
  return address >= (uintptr_t)__start_simt_builtins && address < (uintptr_t)__stop_simt_builtins;
}

bool on_current_stack(uintptr_t address) {
  return thread && address - ((uintptr_t)stacks + thread->stack * stack_size) < stack_size;
}

// --- switching ---------------------------------------------------------------------------

// Makes lane `index` of the block the one in progress.
static inline void enter(uint32_t index) {
  thread = &block->threads[index];
  thread_index = index;
  simt_thread_index = thread->index;
  simt_lane = (int)(index & 31);
  if (mode == Mode::check)
    check_slice_begin((uintptr_t)stacks + (size_t)thread->stack * stack_size, stack_size);
}

// The next lane of the warp that can run, or the block's thread count.
static inline uint32_t next_ready() {
  uint32_t end = (thread_index | 31) + 1;
  if (end > block->thread_count) end = block->thread_count;
  for (uint32_t i = thread_index + 1; i < end; ++i)
    if (block->threads[i].state == READY) return i;
  return block->thread_count;
}

static void thread_main();

static inline void* stack_pointer_of(Thread& next) {
  if (next.stack < 0) {
    next.stack = take_stack();
    next.stack_pointer = fresh_stack(stacks + (size_t)(next.stack + 1) * stack_size, thread_main);
  }
  return next.stack_pointer;
}

// The thread waits. Straight to the next lane, where there is one: the scheduler would do the
// same, for one switch more.
void leave() {
  if (write_pending) check_slice_end();
  Thread* self = thread;
  uint32_t next = next_ready();
  if (next == block->thread_count) {
    simt_switch(&self->stack_pointer, scheduler_pointer);
    return;
  }
  void* target = stack_pointer_of(block->threads[next]);
  enter(next);
  simt_switch(&self->stack_pointer, target);
}

// Runs a thread to its end, and on the same stack the lanes behind it that have not begun.
static void thread_main() {
  for (;;) {
    launch->entry(launch->arguments);
    if (write_pending) check_slice_end();
    thread->state = DONE;
    uint32_t next = next_ready();
    if (next == block->thread_count || block->threads[next].stack >= 0) break;
    block->threads[next].stack = thread->stack;
    thread->stack = -1;
    enter(next);
  }
  simt_switch(&thread->stack_pointer, scheduler_pointer);
  abort();
}

void no_memory() {
  fprintf(stderr, "no memory\n");
  _exit(3);
}

void end_launch_from_thread() {
  stopped = true;
  void* unused;
  simt_switch(&unused, scheduler_pointer);
  abort();
}

// Runs lanes from `index` on until one of them has nobody behind it to go on with.
void resume(uint32_t index) {
  void* target = stack_pointer_of(block->threads[index]);
  enter(index);
  simt_switch(&scheduler_pointer, target);
  if (thread->state == DONE && !stopped) {
    free_stacks[free_count++] = thread->stack;
    thread->stack = -1;
  }
}

}  // namespace simt
