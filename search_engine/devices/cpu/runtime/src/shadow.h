// The shadow of the memory that a launch may write, and the way that nearly every access takes:
// no race, nothing to report, the cells brought up to date. Everything else is check.cpp's.
#pragma once

#include "runtime.h"

extern "C" unsigned char simt_dynamic_shared[];

namespace simt {

// Who made an access, and when: interval << 32 | clock of the lane << 16 | thread of the block.
typedef uint64_t Who;
static inline uint32_t interval_of(Who who) { return (uint32_t)(who >> 32); }
static inline uint32_t thread_of(Who who) { return (uint32_t)who & 0xffff; }
static inline uint16_t clock_of(Who who) { return (uint16_t)(who >> 16); }
// Whether two accesses are of one thread and one interval.
static inline bool goes_on(Who a, Who b) { return ((a ^ b) & 0xffffffff0000ffffull) == 0; }

// Of 4 bytes of memory: the last writer and up to two readers.
struct Cell {
  Who writer, reader;
  uint32_t writer_place, reader_place;  // offset in the module, or a line with the top bit set
  uint16_t reader2, clock2;             // a second reader of the same interval
  uint8_t written, read;                // bytes of the cell, bits 0..3
  uint8_t atomic;                       // the writer was an atomic
  uint8_t two;                          // whether reader2 holds
};
static_assert(sizeof(Cell) == 32, "");

// A stretch of memory with its cells, and for shared memory what the block has written:
// block run << 5 | in flight << 4 | bytes.
struct Shadow {
  uintptr_t begin, size;
  Cell* cells;
  uint32_t* initialised;
};
constexpr uint32_t IN_FLIGHT = 16;
enum Kind : uint8_t { NOTHING, SHARED, GLOBAL, IGNORED };  // of a cell of the module

// What is the same for all accesses of one slice of one thread.
struct Slice {
  Who mine;
  uint32_t now, launch_start, block_start, block_run;
  uintptr_t stack_begin, stack_size;
};
extern Slice slice;
extern Shadow of_arena, of_dynamic, of_module;
extern uint8_t* kinds;
extern bool write_pending;  // a write that may turn out to be a race

static inline void check_slice_begin(uintptr_t stack_begin, uintptr_t stack_size) {
  const Warp& warp = block->warps[thread_index / 32];
  uint32_t lane = thread_index & 31;
  uint16_t clock = warp.clocks_used ? (uint16_t)warp.clocks[lane][lane] : 0;
  slice.mine = (uint64_t)slice.now << 32 | (uint64_t)clock << 16 | thread_index;
  slice.stack_begin = stack_begin;
  slice.stack_size = stack_size;
}

// The buffer that an instruction touched last, by its address in the code.
constexpr uint32_t SITES = 256;
extern const Range* range_at[SITES];
static inline uint32_t site_of(uintptr_t pc) { return (uint32_t)(pc ^ pc >> 8) % SITES; }

template <uint32_t size, bool write, bool shared>
static inline bool update_cells(Shadow& shadow, uintptr_t address, uintptr_t pc) {
  constexpr uint32_t count = size < 4 ? 1 : size / 4;
  size_t index = (address - shadow.begin) / 4;
  Cell* cells = shadow.cells + index;
  const uint8_t bytes = size < 4 ? (uint8_t)(((1u << size) - 1) << (address & 3)) : 0xf;
  const Slice& s = slice;
  const uint32_t earlier_blocks = s.block_start - s.launch_start;
  for (uint32_t i = 0; i < count; ++i) {
    const Cell& c = cells[i];
    uint32_t written = interval_of(c.writer);
    if (written == s.now) {
      if (!goes_on(c.writer, s.mine)) return false;
    } else if (!shared && written - s.launch_start < earlier_blocks) {
      return false;
    }
    if (!write) {
      // Written by this run of the block, so surely initialised.
      if (shared && (written < s.block_start || (c.written & bytes) != bytes)) return false;
    } else if (c.read) {
      uint32_t read = interval_of(c.reader);
      if (read == s.now) {
        if (c.two || !goes_on(c.reader, s.mine)) return false;
      } else if (!shared && read - s.launch_start < earlier_blocks) {
        return false;
      }
    }
  }
  const uint32_t place = (uint32_t)(pc - module_begin);
  for (uint32_t i = 0; i < count; ++i) {
    Cell& c = cells[i];
    if (write) {
      c.written = bytes == 0xf || !goes_on(c.writer, s.mine) ? bytes : c.written | bytes;
      c.atomic = 0;
      c.writer = s.mine;
      c.writer_place = place;
      if (interval_of(c.reader) != s.now) c.read = 0, c.two = 0;
      if (shared) {
        uint32_t& state = shadow.initialised[index + i];
        uint32_t before = state >> 5 == s.block_run ? state & 0xf : 0;
        state = s.block_run << 5 | before | bytes;
      }
    } else if (interval_of(c.reader) != s.now || !c.read) {
      c.reader = s.mine;
      c.reader_place = place;
      c.read = bytes;
      c.two = 0;
    } else if (goes_on(c.reader, s.mine)) {
      c.reader = s.mine;
      c.reader_place = place;
      c.read |= bytes;
    } else {
      c.read |= bytes;
      uint32_t me = thread_of(s.mine);
      // Two readers are enough if they are of different warps: a writer differs from one.
      if (!c.two || c.reader2 == me || c.reader2 / 32 == thread_of(c.reader) / 32)
        c.reader2 = (uint16_t)me, c.clock2 = clock_of(s.mine), c.two = 1;
    }
  }
  return true;
}

// True where the access is in order and accounted for. `address` is a multiple of `size`.
template <uint32_t size, bool write>
static inline bool check_quickly(uintptr_t address, uintptr_t pc) {
  if (write_pending) return false;
  if (address - arena_begin < arena_end - arena_begin) {
    const Range* range = range_at[site_of(pc)];
    if (!range || address < range->begin || address + size > range->end) return false;
    if (!range->writable) return !write;
    return update_cells<size, write, false>(of_arena, address, pc);
  }
  if (address - slice.stack_begin < slice.stack_size) return true;
  if (address - of_dynamic.begin < launch->shared_bytes && size <= launch->shared_bytes &&
      address - of_dynamic.begin <= launch->shared_bytes - size)
    return update_cells<size, write, true>(of_dynamic, address, pc);
  uintptr_t offset = address - of_module.begin;
  if (offset < of_module.size && kinds[offset / 4] == SHARED &&
      (size <= 4 || kinds[(offset + size - 1) / 4] == SHARED))
    return update_cells<size, write, true>(of_module, address, pc);
  return false;
}

}  // namespace simt
