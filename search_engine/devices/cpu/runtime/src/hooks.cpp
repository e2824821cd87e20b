// What the compiler's -fsanitize=thread calls before every load and store of a kernel; the
// library that usually answers (libtsan) is not linked.
#include <cstring>

#include "shadow.h"

using namespace simt;

static inline void access(void* address, uint32_t size, bool write, void* caller) {
  uintptr_t pc = (uintptr_t)caller - 1;
  if (mode == Mode::check)
    check_access((uintptr_t)address, size, write, false, pc, 0);
  else
    count_access((uintptr_t)address, size, write, false, pc);
}

[[gnu::cold, gnu::noinline]] static void slowly(void* address, uint32_t size, bool write,
                                                  void* caller) {
  access(address, size, write, caller);
}

template <uint32_t size, bool write>
static inline void aligned_access(void* address, void* caller) {
  if (mode == Mode::check &&
      check_quickly<size, write>((uintptr_t)address, (uintptr_t)caller - 1))
    return;
  slowly(address, size, write, caller);
}

[[gnu::cold, gnu::noinline]] static void misaligned(void* address, uint32_t size, void* caller) {
  if (mode != Mode::check || !thread || on_current_stack((uintptr_t)address)) return;
  char text[96];
  __builtin_snprintf(text, sizeof text, "an access of %u bytes at an address that is no multiple of %u",
                     size, size);
  report("misaligned", text, (uintptr_t)caller - 1, 0);
  end_launch_from_thread();
}

#define HOOKS(size)                                                              \
  void __tsan_read##size(void* a) {                                             \
    void* caller = __builtin_return_address(0);                                 \
    if (size > 1 && ((uintptr_t)a & (size - 1))) misaligned(a, size, caller);   \
    aligned_access<size, false>(a, caller);                                     \
  }                                                                             \
  void __tsan_write##size(void* a) {                                            \
    void* caller = __builtin_return_address(0);                                 \
    if (size > 1 && ((uintptr_t)a & (size - 1))) misaligned(a, size, caller);   \
    aligned_access<size, true>(a, caller);                                      \
  }                                                                             \
  void __tsan_unaligned_read##size(void* a) {                                   \
    access(a, size, false, __builtin_return_address(0));                        \
  }                                                                             \
  void __tsan_unaligned_write##size(void* a) {                                  \
    access(a, size, true, __builtin_return_address(0));                         \
  }                                                                             \
  void __tsan_read_write##size(void* a) {                                       \
    access(a, size, false, __builtin_return_address(0));                        \
    access(a, size, true, __builtin_return_address(0));                         \
  }

extern "C" {

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_init(void) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void) {}

void __tsan_read_range(void* a, unsigned long size) {
  if (size) access(a, (uint32_t)size, false, __builtin_return_address(0));
}
void __tsan_write_range(void* a, unsigned long size) {
  if (size) access(a, (uint32_t)size, true, __builtin_return_address(0));
}

// The linker sends the hooked build's calls here (--wrap); clang calls __tsan_memcpy itself.
void* __tsan_memcpy(void*, const void*, size_t) __attribute__((alias("__wrap_memcpy")));
void* __tsan_memmove(void*, const void*, size_t) __attribute__((alias("__wrap_memmove")));
void* __tsan_memset(void*, int, size_t) __attribute__((alias("__wrap_memset")));

void* __wrap_memcpy(void* to, const void* from, size_t size) {
  if (size) {
    access((void*)from, (uint32_t)size, false, __builtin_return_address(0));
    access(to, (uint32_t)size, true, __builtin_return_address(0));
  }
  return memcpy(to, from, size);
}
void* __wrap_memmove(void* to, const void* from, size_t size) {
  if (size) {
    access((void*)from, (uint32_t)size, false, __builtin_return_address(0));
    access(to, (uint32_t)size, true, __builtin_return_address(0));
  }
  return memmove(to, from, size);
}
void* __wrap_memset(void* to, int value, size_t size) {
  if (size) access(to, (uint32_t)size, true, __builtin_return_address(0));
  return memset(to, value, size);
}
int __wrap_memcmp(const void* a, const void* b, size_t size) {
  if (size) {
    access((void*)a, (uint32_t)size, false, __builtin_return_address(0));
    access((void*)b, (uint32_t)size, false, __builtin_return_address(0));
  }
  return memcmp(a, b, size);
}

void simt_atomic(const void* address, unsigned long size, int line) {
  if ((uintptr_t)address & (size - 1)) {
    if (mode == Mode::check) {
      report("misaligned", "an atomic at an address that is no multiple of its size", 0, line);
      end_launch_from_thread();
    }
  }
  if (mode == Mode::check)
    check_access((uintptr_t)address, (uint32_t)size, true, true, 0, line);
  else
    count_access((uintptr_t)address, (uint32_t)size, true, true, (uintptr_t)line);
}

void simt_assert(const char* text, int line) {
  char message[160];
  __builtin_snprintf(message, sizeof message, "assert(%.120s) failed", text);
  report("assert", message, 0, line);
  end_launch_from_thread();
}

void simt_trap(int line) {
  report("assert", "__trap() was reached", 0, line);
  end_launch_from_thread();
}

long long simt_clock(void) {
  static long long ticks;
  return ticks += 16;  // grows, and is the same in every run
}

}  // extern "C"
