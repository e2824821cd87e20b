// Blocks, warps and threads. A warp runs alone from barrier to barrier: its ready lanes run
// one after the other until each waits or ends, then what they wait for is resolved.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

extern "C" int simt_lane;

namespace simt {

Mode mode = Mode::plain;
Launch* launch;
Block* block;
Thread* thread;
uint32_t thread_index;
bool stopped;
const Variable* variables;
size_t variable_count;
uintptr_t arena_begin, arena_end, module_begin, module_end;

// --- waiting: called by kernels -----------------------------------------------------------

extern "C" void simt_barrier(int line) {
  thread->state = AT_BARRIER;
  thread->kind = 0;
  thread->line = line;
  leave();
}

extern "C" int simt_barrier_reduce(int kind, int predicate, int line) {
  thread->state = AT_BARRIER;
  thread->kind = (uint8_t)kind;
  thread->value = predicate != 0;
  thread->line = line;
  leave();
  return block->barrier_result;
}

extern "C" void simt_grid_barrier(int line) {
  if (!launch->cooperative) {
    report("divergent-barrier", "a grid barrier in a launch that is not cooperative", 0, line);
    end_launch_from_thread();
  }
  thread->state = AT_GRID;
  thread->line = line;
  leave();
}

struct Published {
  uint64_t value[32];
};

extern "C" const Published* simt_exchange(int kind, unsigned mask, unsigned long long value,
                                          int line, unsigned* present) {
  if (!((mask >> simt_lane) & 1)) {
    report("divergent-shuffle", "the calling lane is not in the mask", 0, line);
    end_launch_from_thread();
  }
  thread->state = AT_COLLECTIVE;
  thread->kind = (uint8_t)kind;
  thread->mask = mask;
  thread->value = value;
  thread->line = line;
  leave();
  *present = thread->present;
  return (const Published*)block->warps[thread_index / 32].published;
}

extern "C" unsigned simt_converged(int line) {
  thread->state = AT_CONVERGENCE;
  thread->line = line;
  leave();
  return thread->present;
}

extern "C" unsigned long long simt_absent(int lane, unsigned mask, int line) {
  // A lane outside the mask: the value is undefined, which NaN shows. A lane that the mask
  // claims is there: the program is wrong about itself.
  if (mode == Mode::check && ((mask >> lane) & 1)) {
    char text[96];
    snprintf(text, sizeof text, "a value is read from lane %d, which has left the kernel", lane);
    report("divergent-shuffle", text, 0, line);
  }
  return ~0ull;
}

// --- resolving ------------------------------------------------------------------------------

static const char* waits_for(const Thread& t) {
  switch (t.state) {
    case AT_BARRIER: return "waits at the block's barrier";
    case AT_GRID: return "waits at the grid's barrier";
    case DONE: return "has left the kernel";
    default: return "waits at another collective";
  }
}

static void released(Warp& warp, uint8_t kind, uint32_t lanes) {
  if (kind == 1 && mode == Mode::check) check_warp_synchronised(warp, lanes);
  if (mode == Mode::count) count_collective(kind);
}

// What nearly every collective is: all 32 lanes at the same one.
static bool resolve_whole_warp(Thread* t, Warp& warp) {
  for (uint32_t i = 0; i < 32; ++i)
    if (t[i].state != AT_COLLECTIVE || t[i].mask != ~0u || t[i].kind != t[0].kind) return false;
  for (uint32_t i = 0; i < 32; ++i) {
    warp.published[i] = t[i].value;
    t[i].present = ~0u;
    t[i].state = READY;
  }
  released(warp, t[0].kind, ~0u);
  return true;
}

// Releases every group of lanes that is complete; false where none is.
static bool resolve_collectives(uint32_t first, uint32_t lanes, Warp& warp) {
  Thread* t = block->threads + first;
  if (lanes == 32 && resolve_whole_warp(t, warp)) return true;
  uint32_t exited = lanes == 32 ? 0 : ~0u << lanes, waiting = 0;
  for (uint32_t i = 0; i < lanes; ++i) {
    if (t[i].state == DONE) exited |= 1u << i;
    if (t[i].state == AT_COLLECTIVE) waiting |= 1u << i;
  }
  bool any = false;
  for (uint32_t left = waiting; left;) {
    uint32_t i = (uint32_t)__builtin_ctz(left);
    uint32_t mask = t[i].mask, needed = mask & ~exited;
    left &= ~(1u << i);
    if ((needed & waiting) != needed) continue;
    bool agree = true;
    for (uint32_t rest = needed; rest; rest &= rest - 1) {
      uint32_t j = (uint32_t)__builtin_ctz(rest);
      agree = agree && t[j].mask == mask && t[j].kind == t[i].kind;
    }
    if (!agree) continue;
    for (uint32_t rest = needed; rest; rest &= rest - 1) {
      uint32_t j = (uint32_t)__builtin_ctz(rest);
      warp.published[j] = t[j].value;
      t[j].present = needed;
      t[j].state = READY;
    }
    released(warp, t[i].kind, needed);
    left &= ~needed;
    any = true;
  }
  return any;
}

// __activemask(): when nothing else moves, the lanes at one line are the converged ones.
static bool resolve_convergence(uint32_t first, uint32_t lanes) {
  Thread* t = block->threads + first;
  bool released = false;
  for (uint32_t i = 0; i < lanes; ++i) {
    if (t[i].state != AT_CONVERGENCE) continue;
    uint32_t together = 0;
    for (uint32_t j = i; j < lanes; ++j)
      if (t[j].state == AT_CONVERGENCE && t[j].line == t[i].line) together |= 1u << j;
    for (uint32_t j = i; j < lanes; ++j)
      if ((together >> j) & 1) t[j].present = together, t[j].state = READY;
    released = true;
    break;
  }
  return released;
}

static void report_stuck_collective(uint32_t first, uint32_t lanes) {
  Thread* t = block->threads + first;
  for (uint32_t i = 0; i < lanes; ++i) {
    if (t[i].state != AT_COLLECTIVE) continue;
    char text[160] = "the lanes of the mask do not meet";
    for (uint32_t j = 0; j < lanes; ++j) {
      if (!((t[i].mask >> j) & 1) || (t[j].state == AT_COLLECTIVE && t[j].mask == t[i].mask &&
                                      t[j].kind == t[i].kind))
        continue;
      if (t[j].state == DONE) continue;
      snprintf(text, sizeof text, "lane %u of the mask %#x is not there: it %s (line %d)", j,
               t[i].mask, waits_for(t[j]), t[j].line);
      break;
    }
    report_at("divergent-shuffle", text, 0, t[i].line, block->index, t[i].index);
    return;
  }
}

static void run_warp(uint32_t index) {
  uint32_t first = index * 32;
  uint32_t lanes = block->thread_count - first < 32 ? block->thread_count - first : 32;
  Warp& warp = block->warps[index];
  for (;;) {
    uint32_t at_collective = 0, at_convergence = 0;
    for (uint32_t i = first; i < first + lanes; ++i) {
      if (block->threads[i].state == READY) {
        resume(i);
        if (stopped) return;
      }
    }
    for (uint32_t i = first; i < first + lanes; ++i) {
      ThreadState state = block->threads[i].state;
      at_collective += state == AT_COLLECTIVE;
      at_convergence += state == AT_CONVERGENCE;
    }
    if (mode == Mode::count) count_warp_replay(warp, first);
    if (!at_collective && !at_convergence) return;
    if (resolve_collectives(first, lanes, warp)) continue;
    if (at_convergence && resolve_convergence(first, lanes)) continue;
    report_stuck_collective(first, lanes);
    stopped = true;
    return;
  }
}

// True when all threads are at the barrier that one of them is at; reports otherwise.
static bool all_at(ThreadState state) {
  Thread* found = nullptr;
  for (uint32_t i = 0; i < block->thread_count; ++i)
    if (block->threads[i].state == state && !found) found = block->threads + i;
  for (uint32_t i = 0; i < block->thread_count; ++i) {
    Thread& other = block->threads[i];
    bool same = other.state == state && other.line == found->line;
    if (same) continue;
    // Outside the checking run what hardware tolerates is tolerated: threads that have
    // left, and barriers on different lines.
    if (mode != Mode::check && (other.state == DONE || other.state == state)) continue;
    char text[160];
    if (other.state == state)
      snprintf(text, sizeof text, "thread (%u, %u, %u) waits at the barrier of line %d",
               other.index.x, other.index.y, other.index.z, other.line);
    else
      snprintf(text, sizeof text, "thread (%u, %u, %u) does not reach it: it %s", other.index.x,
               other.index.y, other.index.z, waits_for(other));
    report_at("divergent-barrier", text, 0, found->line, block->index, found->index);
    return false;
  }
  return true;
}

static void release_barrier() {
  int count = 0, present = 0;
  uint8_t kind = 0;
  for (uint32_t i = 0; i < block->thread_count; ++i) {
    Thread& t = block->threads[i];
    if (t.state != AT_BARRIER) continue;
    if (t.kind) kind = t.kind, count += (int)t.value;
    ++present;
    t.state = READY;
  }
  block->barrier_result = kind == 1 ? count : kind == 2 ? count == present : count > 0;
  if (mode == Mode::check) check_barrier_released();
  if (mode == Mode::count) count_barrier();
}

bool run_block() {
  for (;;) {
    for (uint32_t w = 0; w < block->warp_count; ++w) {
      run_warp(w);
      if (stopped) return true;
    }
    uint32_t done = 0, at_barrier = 0, at_grid = 0;
    for (uint32_t i = 0; i < block->thread_count; ++i) {
      done += block->threads[i].state == DONE;
      at_barrier += block->threads[i].state == AT_BARRIER;
      at_grid += block->threads[i].state == AT_GRID;
    }
    if (done == block->thread_count) return true;
    if (at_barrier) {
      if (!all_at(AT_BARRIER)) return stopped = true;
      release_barrier();
      continue;
    }
    if (!all_at(AT_GRID)) return stopped = true;
    return false;
  }
}

}  // namespace simt
