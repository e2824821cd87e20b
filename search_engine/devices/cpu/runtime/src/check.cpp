// The checking run: every load and store of the kernel comes here before it happens.
//
// A 4-byte cell of memory that a launch may write keeps its last writer and up to two
// readers. Whether two accesses are ordered is decided by barriers alone, so a race is found
// whatever order the threads happen to run in:
//
// - `now` counts intervals: it grows at every block barrier and at every new block. Accesses
//   of earlier intervals of the same block are ordered; those of other blocks since the
//   launch began never are.
// - Within an interval threads of one warp are ordered by __syncwarp, kept as a vector clock
//   per lane; shuffles and votes order nothing.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shadow.h"

namespace simt {

Slice slice;
Shadow of_arena, of_dynamic, of_module;
uint8_t* kinds;
bool write_pending;
const Range* range_at[SITES];
static bool fence_used, initialised_unknown;

// A write over another thread's write in one interval: harmless if it stores the same bytes.
// `write_pending` says that there is one.
static struct {
  bool cross_block;
  uintptr_t address;
  uint32_t size;
  unsigned char before[16];
  uintptr_t pc;
  int line;
  Who other;
  uint32_t other_place;
} pending;

static void* reserve(size_t size) {
  if (size == 0) return nullptr;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fprintf(stderr, "no memory for the checks\n");
    _exit(3);
  }
  // Eight times the memory that it stands for: with small pages, faults cost more than checks.
  if (size >= 4 << 20) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

static Shadow make_shadow(uintptr_t begin, uintptr_t end) {
  begin &= ~(uintptr_t)3;
  size_t cells = (end - begin + 3) / 4;
  return {begin, end - begin, (Cell*)reserve(cells * sizeof(Cell)), nullptr};
}

void check_start(uintptr_t writable_begin, uintptr_t writable_end) {
  of_arena = make_shadow(writable_begin, writable_end);
  uintptr_t dynamic = (uintptr_t)simt_dynamic_shared;
  of_dynamic = make_shadow(dynamic, dynamic + MAX_DYNAMIC_SHARED);
  uintptr_t begin = ~(uintptr_t)0, end = 0;
  for (size_t i = 0; i < variable_count; ++i) {
    if (variables[i].begin < begin) begin = variables[i].begin;
    if (variables[i].end > end) end = variables[i].end;
  }
  if (end == 0) begin = 0;
  of_module = make_shadow(begin, end);
  size_t cells = (of_module.size + 3) / 4;
  of_dynamic.initialised = (uint32_t*)reserve(MAX_DYNAMIC_SHARED);
  of_module.initialised = (uint32_t*)reserve(cells * 4);
  kinds = (uint8_t*)reserve(cells);
  for (size_t i = 0; i < variable_count; ++i)
    for (uintptr_t a = variables[i].begin; a < variables[i].end; a += 4)
      kinds[(a - of_module.begin) / 4] = variables[i].guard ? IGNORED : variables[i].shared ? SHARED : GLOBAL;
}

// --- reporting -----------------------------------------------------------------------------

static uint32_t place_of(uintptr_t pc, int line) {
  return line ? 0x80000000u | (uint32_t)line : (uint32_t)(pc - module_begin);
}

// The other party of a race is told as `@offset` or `#line`, which the reader of the report
// turns into a line.
static void report_race(const char* what, Who other, uint32_t place, bool cross_block,
                        uintptr_t pc, int line) {
  if (cross_block && fence_used) return;
  char text[200];
  bool is_line = place >> 31;
  uint32_t where = place & 0x7fffffff;
  if (cross_block) {
    snprintf(text, sizeof text, "%s by another block %c%u without an order between them", what,
             is_line ? '#' : '@', where);
  } else {
    const Dim& t = block->threads[thread_of(other)].index;
    snprintf(text, sizeof text, "%s by thread (%u, %u, %u) %c%u with no barrier between", what,
             t.x, t.y, t.z, is_line ? '#' : '@', where);
  }
  report("race", text, pc, line);
  if (cross_block) mark_last_cross_block();
}

[[noreturn]] static void stop(const char* check, const char* text, uintptr_t pc, int line) {
  report(check, text, pc, line);
  end_launch_from_thread();
}

void check_slice_end() {
  if (!write_pending) return;
  write_pending = false;
  if (memcmp((void*)pending.address, pending.before, pending.size) != 0)
    report_race("another value was written here", pending.other, pending.other_place,
                pending.cross_block, pending.pc, pending.line);
}

// --- intervals -------------------------------------------------------------------------------

void check_launch_begin() {
  slice.launch_start = slice.block_start = ++slice.now;
  memset(range_at, 0, sizeof range_at);
}

void check_launch_end() {
  if (fence_used) drop_cross_block_races();
  fence_used = false;
}

static void forget_clocks() {
  for (uint32_t w = 0; w < block->warp_count; ++w) {
    if (!block->warps[w].clocks_used) continue;
    memset(block->warps[w].clocks, 0, sizeof block->warps[w].clocks);
    block->warps[w].clocks_used = false;
  }
}

void check_block_begin(bool first_time) {
  slice.block_start = ++slice.now;
  ++slice.block_run;
  initialised_unknown = !first_time;
  forget_clocks();
}

void check_barrier_released() {
  ++slice.now;
  forget_clocks();
}

void check_warp_synchronised(Warp& warp, uint32_t lanes) {
  warp.clocks_used = true;
  uint32_t joint[32] = {};
  for (uint32_t i = 0; i < 32; ++i) {
    if (!((lanes >> i) & 1)) continue;
    ++warp.clocks[i][i];
    for (uint32_t j = 0; j < 32; ++j)
      if (warp.clocks[i][j] > joint[j]) joint[j] = warp.clocks[i][j];
  }
  for (uint32_t i = 0; i < 32; ++i)
    if ((lanes >> i) & 1) memcpy(warp.clocks[i], joint, sizeof joint);
}

// Whether an access of the current interval comes before whatever the current thread does.
static inline bool ordered(uint32_t other, uint16_t clock) {
  if (other == thread_index) return true;
  if (other / 32 != thread_index / 32) return false;
  return block->warps[thread_index / 32].clocks[thread_index & 31][other & 31] > clock;
}

// 0: ordered, 1: not, 2: not, and by another block.
static inline int conflict(Who a, bool shared) {
  uint32_t interval = interval_of(a);
  if (interval < slice.launch_start) return 0;
  if (interval < slice.block_start) return shared ? 0 : 2;
  if (interval < slice.now) return 0;
  return ordered(thread_of(a), clock_of(a)) ? 0 : 1;
}

// --- accesses ----------------------------------------------------------------------------------

static void check_cell(Cell& cell, uint8_t bytes, bool write, bool atomic, bool shared,
                       uintptr_t address, uint32_t size, uintptr_t pc, int line) {
  bool same_writer_kind = atomic && cell.atomic;
  if ((cell.written & bytes) && !same_writer_kind) {
    int bad = conflict(cell.writer, shared);
    if (bad && write && !atomic && !cell.atomic) {
      if (!write_pending && size <= 16) {
        write_pending = true;
        pending = {bad == 2, address, size, {}, pc, line, cell.writer, cell.writer_place};
        memcpy(pending.before, (void*)address, size);
      }
    } else if (bad) {
      report_race(write ? "written here and" : "read here, written", cell.writer,
                  cell.writer_place, bad == 2, pc, line);
    }
  }
  const uint32_t now = slice.now;
  if (write && (cell.read & bytes)) {
    int bad = conflict(cell.reader, shared);
    if (!bad && cell.two && interval_of(cell.reader) == now &&
        !ordered(cell.reader2, cell.clock2))
      report_race("written here, read", cell.reader2, cell.reader_place, false, pc, line);
    else if (bad)
      report_race("written here, read", cell.reader, cell.reader_place, bad == 2, pc, line);
  }
  uint32_t place = place_of(pc, line);
  if (write) {
    bool again = goes_on(cell.writer, slice.mine);
    // A thread's plain write stays one, also under an atomic of its own.
    cell.atomic = atomic && !(again && cell.written && !cell.atomic);
    cell.written = again ? cell.written | bytes : bytes;
    cell.writer = slice.mine;
    cell.writer_place = place;
    if (interval_of(cell.reader) != now) cell.read = 0, cell.two = 0;
    return;
  }
  uint32_t first = thread_of(cell.reader);
  if (!cell.read || interval_of(cell.reader) != now) {
    cell.reader = slice.mine;
    cell.reader_place = place;
    cell.read = bytes;
    cell.two = 0;
  } else if (first == thread_index) {
    cell.reader = slice.mine;
    cell.reader_place = place;
    cell.read |= bytes;
  } else {
    cell.read |= bytes;
    bool replaces = !cell.two || cell.reader2 == thread_index || cell.reader2 / 32 == first / 32;
    if (replaces)
      cell.reader2 = (uint16_t)thread_index, cell.clock2 = clock_of(slice.mine), cell.two = 1;
  }
}

static void check_cells(Shadow& shadow, uintptr_t address, uint32_t size, bool write, bool atomic,
                        bool shared, uintptr_t pc, int line) {
  uint32_t* init = shared ? shadow.initialised : nullptr;
  const uint32_t block_run = slice.block_run;
  bool uninitialised = false, in_flight = false;
  for (uintptr_t a = address; a < address + size;) {
    size_t index = (a - shadow.begin) / 4;
    uint32_t first = (uint32_t)(a - shadow.begin) & 3;
    uint32_t count = 4 - first;
    if (a + count > address + size) count = (uint32_t)(address + size - a);
    uint8_t bytes = (uint8_t)(((1u << count) - 1) << first);
    check_cell(shadow.cells[index], bytes, write, atomic, shared, address, size, pc, line);
    if (init) {
      uint32_t& state = init[index];
      if (state >> 5 != block_run) state = block_run << 5;
      if ((!write || atomic) && (state & bytes) != bytes) {
        uninitialised = true;
        in_flight = state & IN_FLIGHT;
      }
      if (write) state = (state | bytes) & ~IN_FLIGHT;
    }
    a += count;
  }
  if (in_flight)
    report("uninitialised-shared",
           "shared memory is read that an asynchronous copy has not arrived in: the copying thread "
           "waits first (cp.async.wait_group), then the block (__syncthreads)",
           pc, line);
  else if (uninitialised && !initialised_unknown)
    report("uninitialised-shared", "shared memory is read that the block has not written", pc,
           line);
}

void check_in_flight(uintptr_t address, uint32_t size) {
  bool is_dynamic = address - of_dynamic.begin < of_dynamic.size;
  Shadow& shadow = is_dynamic ? of_dynamic : of_module;
  size_t first = (address - shadow.begin) / 4;
  for (size_t i = first; i < first + size / 4; ++i) {
    shadow.initialised[i] = slice.block_run << 5 | IN_FLIGHT;
    shadow.cells[i].written = 0;  // no read may take the quick way
  }
}

static const Range* range_of(uintptr_t begin, uintptr_t end, uintptr_t pc) {
  for (size_t i = 0; i < launch->buffer_count; ++i) {
    const Range& r = launch->buffers[i];
    if (begin >= r.begin && end <= r.end) return range_at[site_of(pc)] = &r;
  }
  return nullptr;
}

[[noreturn]] static void out_of_bounds(uintptr_t address, uint32_t size, bool write, uintptr_t pc,
                                       int line) {
  const char* act = write ? "written" : "read";
  char text[200];
  uintptr_t dynamic = (uintptr_t)simt_dynamic_shared;
  if (address >= arena_begin && address < arena_end) {
    // Which buffer it missed is told by its place: `~offset` in the arena.
    snprintf(text, sizeof text, "%u bytes are %s outside every buffer of the launch ~%llu", size,
             act, (unsigned long long)(address - arena_begin));
  } else if (address - dynamic < 2 * MAX_DYNAMIC_SHARED || dynamic - address < 65536) {
    snprintf(text, sizeof text,
             "%u bytes are %s at byte %lld of %u bytes of dynamic shared memory", size, act,
             (long long)(address - dynamic), launch->shared_bytes);
  } else if (address >= module_begin && address < module_end) {
    const Variable* near = nullptr;
    for (size_t i = 0; i < variable_count; ++i)
      if (variables[i].begin <= address && (!near || variables[i].begin > near->begin))
        near = variables + i;
    if (near)
      snprintf(text, sizeof text,
               "%u bytes are %s at byte %llu of a %s of %llu bytes", size, act,
               (unsigned long long)(address - near->begin),
               near->shared ? "shared variable" : "variable",
               (unsigned long long)(near->end - near->begin));
    else
      snprintf(text, sizeof text, "%u bytes are %s outside every variable", size, act);
  } else if (address < 65536) {
    snprintf(text, sizeof text, "%u bytes are %s through a null pointer", size, act);
  } else {
    snprintf(text, sizeof text, "%u bytes are %s outside all memory of the launch", size, act);
  }
  stop("out-of-bounds", text, pc, line);
}

void check_access(uintptr_t address, uint32_t size, bool write, bool atomic, uintptr_t pc,
                  int line) {
  if (!thread) return;
  if (write_pending) check_slice_end();
  uintptr_t end = address + size;
  if (address >= arena_begin && address < arena_end) {
    const Range* range = range_of(address, end, pc);
    if (!range) out_of_bounds(address, size, write, pc, line);
    if (range->writable) check_cells(of_arena, address, size, write, atomic, false, pc, line);
    else if (write) stop("out-of-bounds", "an input is written: inputs are const", pc, line);
    return;
  }
  if (on_current_stack(address)) return;
  if (address >= of_dynamic.begin && end <= of_dynamic.begin + launch->shared_bytes) {
    check_cells(of_dynamic, address, size, write, atomic, true, pc, line);
    return;
  }
  uintptr_t offset = address - of_module.begin;
  if (offset < of_module.size && end <= of_module.begin + of_module.size) {
    uint8_t first = kinds[offset / 4], last = kinds[(offset + size - 1) / 4];
    if (first == IGNORED) return;
    if (first && first == last) {
      check_cells(of_module, address, size, write, atomic, first == SHARED, pc, line);
      return;
    }
  }
  if (!write && is_builtin(address)) return;
  // Literals and tables of the module's read-only part.
  if (!write && address >= module_begin && end <= module_end &&
      offset >= of_module.size)
    return;
  out_of_bounds(address, size, write, pc, line);
}

extern "C" void simt_fence(void) { fence_used = true; }

}  // namespace simt
