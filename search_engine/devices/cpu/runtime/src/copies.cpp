// Shared memory by its 32-bit addresses, and asynchronous copies into it.
//
// A copy is performed when its thread waits for it; until then the destination holds NaN and
// counts as never written. So a kernel that reads before the wait, or waits for too few groups,
// is found whatever a GPU's timing would have hidden.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

extern "C" unsigned char simt_dynamic_shared[];

namespace simt {

// Dynamic shared memory has the addresses from 0 on, as a kernel without static variables sees
// it on a GPU; the module's variables stand behind.
static constexpr uint64_t STATIC_WINDOW = 0x10000000, NOWHERE = 0xf0000000;

extern "C" unsigned long long simt_shared_address(const void* pointer) {
  uintptr_t address = (uintptr_t)pointer, dynamic = (uintptr_t)simt_dynamic_shared;
  if (address - dynamic <= MAX_DYNAMIC_SHARED) return address - dynamic;
  if (address >= module_begin && address <= module_end)
    return STATIC_WINDOW + (address - module_begin);
  return NOWHERE;
}

extern "C" void* simt_shared_pointer(unsigned long long address, int line) {
  if (address <= MAX_DYNAMIC_SHARED) return simt_dynamic_shared + address;
  if (address >= STATIC_WINDOW && address - STATIC_WINDOW <= module_end - module_begin)
    return (void*)(module_begin + (address - STATIC_WINDOW));
  if (mode == Mode::plain) return simt_dynamic_shared;
  report("out-of-bounds", "an address is taken for one of shared memory and is none", 0, line);
  end_launch_from_thread();
}

extern "C" int simt_is_shared(const void* pointer) {
  uintptr_t address = (uintptr_t)pointer;
  if (address - (uintptr_t)simt_dynamic_shared < MAX_DYNAMIC_SHARED) return 1;
  for (size_t i = 0; i < variable_count; ++i)
    if (variables[i].shared && address >= variables[i].begin && address < variables[i].end)
      return 1;
  return 0;
}

// An access that a header of the runtime makes for the kernel.
extern "C" void simt_access(const void* address, unsigned long size, int write, int line) {
  if (mode == Mode::plain || size == 0) return;
  bool power = size <= 16 && (size & (size - 1)) == 0;
  if (mode == Mode::check) {
    if (power && ((uintptr_t)address & (size - 1))) {
      char text[96];
      snprintf(text, sizeof text, "an access of %lu bytes at an address that is no multiple of %lu",
               size, size);
      report("misaligned", text, 0, line);
      end_launch_from_thread();
    }
    check_access((uintptr_t)address, (uint32_t)size, write, false, 0, line);
  } else {
    count_access((uintptr_t)address, (uint32_t)size, write, false, module_begin + (uint32_t)line);
  }
}

extern "C" void simt_misuse(const char* text, int line) {
  report("misuse", text, 0, line);
  end_launch_from_thread();
}

// --- asynchronous copies --------------------------------------------------------------------

struct Copy {
  unsigned char* to;
  const void* from;
  uint32_t group;
  uint8_t size, taken;  // bytes written; bytes read, the rest are zeros
  int line;
};

struct Copies {
  Copy* items;  // in the order they were issued
  uint32_t begin, end, room;
  uint32_t group;  // the one that is being filled
};

static Copies& copies_of_thread() {
  if (!thread->copies && !(thread->copies = (Copies*)calloc(1, sizeof(Copies)))) no_memory();
  return *thread->copies;
}

void forget_copies(Thread& of) {
  if (of.copies) of.copies->begin = of.copies->end = of.copies->group = 0;
}

void free_copies(Thread& of) {
  if (of.copies) free(of.copies->items), free(of.copies);
  of.copies = nullptr;
}

extern "C" void simt_copy_async(void* to, const void* from, unsigned size, unsigned taken,
                                int line) {
  if (size != 4 && size != 8 && size != 16)
    simt_misuse("an asynchronous copy has 4, 8 or 16 bytes", line);
  if (taken > size) simt_misuse("an asynchronous copy takes more bytes than it has", line);
  if (!simt_is_shared(to)) {
    report("out-of-bounds", "an asynchronous copy goes to memory that is not shared", 0, line);
    end_launch_from_thread();
  }
  if (((uintptr_t)from & (size - 1)) && taken) {
    report("misaligned", "an asynchronous copy from an address that is no multiple of its size", 0,
           line);
    end_launch_from_thread();
  }
  if (taken) simt_access(from, taken, 0, line);
  simt_access(to, size, 1, line);
  memset(to, 0xff, size);
  if (mode == Mode::check) check_in_flight((uintptr_t)to, size);
  Copies& c = copies_of_thread();
  if (c.begin == c.end) c.begin = c.end = 0;
  if (c.end == c.room) {
    c.room = c.room ? c.room * 2 : 32;
    c.items = (Copy*)realloc(c.items, c.room * sizeof(Copy));
    if (!c.items) no_memory();
  }
  c.items[c.end++] = {(unsigned char*)to, from, c.group, (uint8_t)size, (uint8_t)taken, line};
}

static void complete(const Copy& copy) {
  if (mode == Mode::check)
    check_access((uintptr_t)copy.to, copy.size, true, false, 0, copy.line);
  memcpy(copy.to, copy.from, copy.taken);
  memset(copy.to + copy.taken, 0, copy.size - copy.taken);
}

extern "C" void simt_copy_commit(void) { ++copies_of_thread().group; }

// Waits for all committed groups but the last `pending` ones; for all copies where it is -1.
extern "C" void simt_copy_wait(int pending) {
  Copies& c = copies_of_thread();
  while (c.begin < c.end) {
    const Copy& next = c.items[c.begin];
    if (pending >= 0 && (int64_t)next.group >= (int64_t)c.group - pending) break;
    complete(next);
    ++c.begin;
  }
}

}  // namespace simt
