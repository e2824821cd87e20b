// The runner's own parts and what they share. One OS thread runs everything, so all state
// is plain; `Launch` is the one in progress.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

enum class Mode { plain, check, count };

struct Dim {
  uint32_t x, y, z;
  uint64_t count() const { return (uint64_t)x * y * z; }
};

// [begin, end) that a launch may touch.
struct Range {
  uintptr_t begin, end;
  bool writable;
};

// A variable of the module: shared memory of a block, or a device global.
struct Variable {
  uintptr_t begin, end;
  bool shared;
  bool guard;  // the compiler's own, of no concern to the checks
};

struct Launch {
  void (*entry)(void**);
  void** arguments;
  Dim grid, block;
  uint32_t shared_bytes;  // dynamic
  bool cooperative;
  const Range* buffers;  // passed to the launch, by address
  size_t buffer_count;
  const uint64_t* blocks;  // indices of the blocks to run, null for all (count mode)
  uint64_t block_count;
  uint32_t l1_bytes;  // count mode: a block's share of L1
};

enum ThreadState : uint8_t { READY, AT_COLLECTIVE, AT_CONVERGENCE, AT_BARRIER, AT_GRID, DONE };

struct Copies;  // a thread's asynchronous copies under way, see copies.cpp

struct Thread {
  void* stack_pointer;
  Copies* copies;
  int stack;  // index, -1: none yet
  ThreadState state;
  uint8_t kind;       // of the collective or barrier reduction
  uint32_t mask;      // of the collective
  uint64_t value;     // handed to the collective
  int line;           // where it waits
  uint32_t present;   // lanes that took part, set when released
  Dim index;
};

struct Warp {
  uint64_t published[32];
  uint32_t clocks[32][32];  // check mode: what each lane knows of the others, see check.cpp
  bool clocks_used;
};

struct Block {
  Thread* threads;
  Warp* warps;
  uint32_t thread_count, warp_count;
  uint64_t linear;
  Dim index;
  int barrier_result;
  unsigned char* saved_shared;  // cooperative launches: the block's own copy while it waits
  bool after_grid_barrier;
};

extern Mode mode;
extern Launch* launch;
extern Block* block;    // in progress
extern Thread* thread;  // in progress
extern uint32_t thread_index;
extern bool stopped;  // a finding ended the launch

extern const Variable* variables;
extern size_t variable_count;
extern uintptr_t arena_begin, arena_end, module_begin, module_end;

constexpr uint32_t MAX_DYNAMIC_SHARED = 232448;

// --- fibers.cpp ---
void scheduler_start(uint64_t most_threads);
void leave();                 // the thread in progress waits
void resume(uint32_t index);  // from the scheduler: lane `index` and those of its warp behind it
[[noreturn]] void no_memory();
[[noreturn]] void end_launch_from_thread();  // after a finding that allows no going on
bool on_guard_page(uintptr_t address);
bool on_current_stack(uintptr_t address);
bool is_builtin(uintptr_t address);  // threadIdx and its kind

// --- scheduler.cpp ---
// Runs the block until it has ended (true) or waits at the grid's barrier (false).
bool run_block();

// --- copies.cpp ---
void forget_copies(Thread& of);
void free_copies(Thread& of);

// --- grid.cpp ---
void run_launch(Launch& what);

// --- check.cpp ---
void check_start(uintptr_t writable_begin, uintptr_t writable_end);
void check_launch_begin();
void check_launch_end();
void check_block_begin(bool first_time);
void check_barrier_released();
void check_warp_synchronised(Warp& warp, uint32_t lanes);
void check_slice_end();
// Shared memory that an asynchronous copy was issued for: nobody may read it.
void check_in_flight(uintptr_t address, uint32_t size);
void check_access(uintptr_t address, uint32_t size, bool write, bool atomic, uintptr_t pc,
                  int line);

// --- count.cpp ---
void count_start();
void count_launch_begin();
void count_launch_end();
void count_block_begin();
void count_block_end();
void count_access(uintptr_t address, uint32_t size, bool write, bool atomic, uintptr_t pc);
void count_collective(uint8_t kind);
void count_mma(int input, uint64_t flops);  // of a warp's instruction
void count_warp_replay(Warp& warp, uint32_t first_thread);
void count_barrier();
bool count_enough();  // the launch has been counted long enough

// --- report.cpp ---
// `pc` is in the module (0: unknown), `line` in the source (0: take pc's). The place is the
// current block and thread. Few of one kind are kept.
void report(const char* check, const char* text, uintptr_t pc, int line);
void report_at(const char* check, const char* text, uintptr_t pc, int line, Dim block_index,
               Dim thread_index);
void report_line(const char* format, ...) __attribute__((format(printf, 1, 2)));
void report_flush();
void report_open(int fd);
bool any_findings();
void drop_cross_block_races();
void mark_last_cross_block();

// --- guard.cpp ---
bool guard_loading();  // stage 1, before the module is loaded
bool guard_running();  // stage 2, before generated code runs
void guard_limits(uint64_t address_space, uint64_t cpu_seconds);
void catch_faults();

}  // namespace simt
