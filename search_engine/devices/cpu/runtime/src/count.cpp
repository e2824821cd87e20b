// The counting run: what a warp's accesses cost the memory system of a GPU.
//
// Each lane's loads and stores are kept as a list from one stop of its warp to the next.
// Then the lists are replayed in step, the lanes at the lowest address of code first, which
// is how divergent lanes of a warp meet again; every step is one instruction of the warp.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

namespace simt {

extern "C" unsigned char simt_dynamic_shared[];

struct Step {
  uint64_t address;
  uint32_t pc;
  uint8_t size;
  bool write, atomic;
};

struct Trace {
  Step* steps;
  uint32_t kept, room;
};

struct Touched {
  uint64_t read, written, requested;  // unique sectors, unique sectors, sectors asked of L2
};

struct Counts {
  uint64_t blocks, loads, stores, atomics, lines, shared, shared_cycles, load_sectors,
      l2_read_sectors, l2_write_sectors, collectives, barriers, longest_chain, mma,
      flops_tf32, flops_half, flops_byte;  // of the tensor cores, by the inputs' size
};

static constexpr uint32_t SECTOR = 32, LINE = 128, MOST_STEPS = 1 << 20, WAYS = 8;
static constexpr uint64_t MOST_ACCESSES = 40000000;  // of one launch, about two seconds

static Trace traces[32];
static Counts counts;
static Touched* touched;  // by buffer of the launch
static uint8_t *sectors_read, *sectors_written;
static uint64_t accesses;
static uint32_t launch_number;
static uint64_t chain[32];  // by warp of the block: loads that went past L1

// L1 as one block has it: its share of the cache, by sectors, least recently used out first.
static uint64_t *l1_tag, *l1_used, l1_clock;
static uint32_t l1_sets;

static void* reserve(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fprintf(stderr, "no memory for the counts\n");
    _exit(3);
  }
  return memory;
}

void count_start() {
  size_t sectors = (arena_end - arena_begin) / SECTOR + 1;
  sectors_read = (uint8_t*)reserve(sectors);
  sectors_written = (uint8_t*)reserve(sectors);
  touched = (Touched*)reserve(4096 * sizeof(Touched));
  l1_tag = (uint64_t*)reserve(8192 * WAYS * 8);
  l1_used = (uint64_t*)reserve(8192 * WAYS * 8);
}

void count_launch_begin() {
  counts = {};
  accesses = 0;
  size_t sectors = (arena_end - arena_begin) / SECTOR + 1;
  madvise(sectors_read, sectors, MADV_DONTNEED);
  madvise(sectors_written, sectors, MADV_DONTNEED);
  memset(touched, 0, 4096 * sizeof(Touched));
  uint32_t share = launch->l1_bytes / (SECTOR * WAYS);
  for (l1_sets = 1; l1_sets * 2 <= share && l1_sets < 8192;) l1_sets *= 2;
}

void count_block_end() {
  for (uint32_t w = 0; w < block->warp_count; ++w)
    if (chain[w] > counts.longest_chain) counts.longest_chain = chain[w];
}

void count_launch_end() {
  const Counts& c = counts;
  report_line("count %u %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu "
              "%llu %llu %llu %llu\n",
              launch_number, (unsigned long long)c.blocks, (unsigned long long)c.loads,
              (unsigned long long)c.stores, (unsigned long long)c.atomics,
              (unsigned long long)c.lines, (unsigned long long)c.shared,
              (unsigned long long)c.shared_cycles, (unsigned long long)c.load_sectors,
              (unsigned long long)c.l2_read_sectors, (unsigned long long)c.l2_write_sectors,
              (unsigned long long)c.collectives, (unsigned long long)c.barriers,
              (unsigned long long)c.longest_chain, (unsigned long long)c.mma,
              (unsigned long long)c.flops_tf32, (unsigned long long)c.flops_half,
              (unsigned long long)c.flops_byte);
  for (size_t i = 0; i < launch->buffer_count && i < 4096; ++i)
    report_line("touch %u %zu %llu %llu %llu\n", launch_number, i,
                (unsigned long long)touched[i].read, (unsigned long long)touched[i].written,
                (unsigned long long)touched[i].requested);
  ++launch_number;
}

void count_block_begin() {
  ++counts.blocks;
  memset(chain, 0, sizeof chain);
  memset(l1_tag, 0, (size_t)l1_sets * WAYS * 8);
}

bool count_enough() { return accesses > MOST_ACCESSES; }

// Matrix instructions meet as well (kinds from LOAD_MATRIX on), but do not wait like a shuffle.
void count_collective(uint8_t kind) { counts.collectives += kind < 6; }
void count_mma(int input, uint64_t flops) {
  ++counts.mma;
  (input == 2 ? counts.flops_tf32 : input < 2 ? counts.flops_half : counts.flops_byte) += flops;
}
void count_barrier() { counts.barriers += block->warp_count; }

// Constants, built-in variables and the stack cost nothing that is modelled.
static bool is_counted(uintptr_t address) {
  if (address >= arena_begin && address < arena_end) return true;
  if (address - (uintptr_t)simt_dynamic_shared < MAX_DYNAMIC_SHARED) return true;
  for (size_t i = 0; i < variable_count; ++i)
    if (address >= variables[i].begin && address < variables[i].end) return variables[i].shared;
  return false;
}

void count_access(uintptr_t address, uint32_t size, bool write, bool atomic, uintptr_t pc) {
  if (!thread || !is_counted(address)) return;
  Trace& t = traces[thread_index & 31];
  ++accesses;
  if (t.kept == MOST_STEPS) return;
  if (t.kept == t.room) {
    t.room = t.room ? t.room * 2 : 1024;
    t.steps = (Step*)realloc(t.steps, t.room * sizeof(Step));
    if (!t.steps) _exit(3);
  }
  if (size > 16) size = 16;
  t.steps[t.kept++] = {address, (uint32_t)(pc - module_begin), (uint8_t)size, write, atomic};
}

// --- replay ------------------------------------------------------------------------------

static bool l1_hit(uint64_t sector) {
  uint64_t tag = sector + 1;
  uint32_t set = (uint32_t)((sector * 0x9e3779b97f4a7c15ull) >> 40) & (l1_sets - 1);
  uint64_t *tags = l1_tag + set * WAYS, *used = l1_used + set * WAYS;
  uint32_t oldest = 0;
  for (uint32_t i = 0; i < WAYS; ++i) {
    if (tags[i] == tag) {
      used[i] = ++l1_clock;
      return true;
    }
    if (tags[i] == 0 || used[i] < used[oldest]) oldest = i;
    if (tags[i] == 0) break;
  }
  tags[oldest] = tag;
  used[oldest] = ++l1_clock;
  return false;
}

static size_t buffer_of(uintptr_t address) {
  for (size_t i = 0; i < launch->buffer_count && i < 4096; ++i)
    if (address >= launch->buffers[i].begin && address < launch->buffers[i].end) return i;
  return 0;
}

// Distinct values among the first `count`; they are sorted in place.
static uint32_t distinct(uint64_t* values, uint32_t count) {
  for (uint32_t i = 1; i < count; ++i) {
    uint64_t v = values[i];
    uint32_t j = i;
    for (; j > 0 && values[j - 1] > v; --j) values[j] = values[j - 1];
    values[j] = v;
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (i == 0 || values[i] != values[kept - 1]) values[kept++] = values[i];
  return kept;
}

static void global_step(const Step* const* lanes, uint32_t count, uint32_t warp) {
  uint64_t sectors[64], lines[64];
  uint32_t n = 0;
  const Step& first = *lanes[0];
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t begin = lanes[i]->address / SECTOR, end = (lanes[i]->address + lanes[i]->size - 1) / SECTOR;
    sectors[n++] = begin;
    if (end != begin) sectors[n++] = end;
  }
  n = distinct(sectors, n);
  for (uint32_t i = 0; i < n; ++i) lines[i] = sectors[i] / (LINE / SECTOR);
  counts.lines += distinct(lines, n);
  bool missed = false;
  if (first.atomic) ++counts.atomics;
  else if (first.write) ++counts.stores;
  else ++counts.loads, counts.load_sectors += n;
  Touched& t = touched[buffer_of(first.address)];
  for (uint32_t i = 0; i < n; ++i) {
    uint64_t index = sectors[i] - arena_begin / SECTOR;
    if (first.write) {
      ++counts.l2_write_sectors;
      if (!sectors_written[index]) sectors_written[index] = 1, ++t.written;
      continue;
    }
    if (l1_hit(sectors[i])) continue;
    missed = true;
    ++counts.l2_read_sectors;
    ++t.requested;
    if (!sectors_read[index] && !sectors_written[index]) sectors_read[index] = 1, ++t.read;
  }
  if (missed || first.atomic) ++chain[warp];
}

// 32 banks of 4 bytes; 8-byte accesses go by half warps, 16-byte ones by quarters.
static void shared_step(const Step* const* lanes, uint32_t count) {
  uint32_t size = lanes[0]->size < 4 ? 4 : lanes[0]->size;
  uint32_t group = 128 / size;
  ++counts.shared;
  for (uint32_t start = 0; start < count; start += group) {
    uint64_t words[128];
    uint32_t n = 0, in_bank[32] = {}, worst = 0;
    for (uint32_t i = start; i < count && i < start + group; ++i)
      for (uint32_t b = 0; b < size; b += 4) words[n++] = (lanes[i]->address + b) / 4;
    if (lanes[start]->atomic) {  // one after the other where they meet
      for (uint32_t i = 0; i < n; ++i) ++in_bank[words[i] & 31];
    } else {
      n = distinct(words, n);
      for (uint32_t i = 0; i < n; ++i) ++in_bank[words[i] & 31];
    }
    for (uint32_t bank : in_bank)
      if (bank > worst) worst = bank;
    counts.shared_cycles += worst;
  }
}

void count_warp_replay(Warp&, uint32_t first_thread) {
  uint32_t at[32] = {};
  uint32_t warp = first_thread / 32;
  for (;;) {
    uint32_t lowest = ~0u;
    for (uint32_t i = 0; i < 32; ++i)
      if (at[i] < traces[i].kept && traces[i].steps[at[i]].pc < lowest)
        lowest = traces[i].steps[at[i]].pc;
    if (lowest == ~0u) break;
    const Step* lanes[32];
    uint32_t count = 0;
    for (uint32_t i = 0; i < 32; ++i)
      if (at[i] < traces[i].kept && traces[i].steps[at[i]].pc == lowest)
        lanes[count++] = &traces[i].steps[at[i]++];
    uintptr_t address = lanes[0]->address;
    if (address >= arena_begin && address < arena_end) global_step(lanes, count, warp);
    else shared_step(lanes, count);
  }
  for (Trace& t : traces) t.kept = 0;
}

}  // namespace simt
