// Switching between fibers: callee-saved registers and the stack pointer, nothing else.
#pragma once

extern "C" void simt_switch(void** save, void* load);

namespace simt {

// The stack pointer of a fiber that has not run yet: its first switch enters `entry`.
inline void* fresh_stack(void* top, void (*entry)()) {
  void** sp = (void**)((__UINTPTR_TYPE__)top & ~(__UINTPTR_TYPE__)15);
#if defined(__x86_64__)
  *--sp = nullptr;  // `entry` starts as if called: the stack is 8 off a multiple of 16
  *--sp = (void*)entry;
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
#elif defined(__aarch64__)
  sp -= 20;
  for (int i = 0; i < 20; ++i) sp[i] = nullptr;
  sp[11] = (void*)entry;  // x30
#else
#error "the cpu device runs on x86-64 and aarch64"
#endif
  return sp;
}

}  // namespace simt
