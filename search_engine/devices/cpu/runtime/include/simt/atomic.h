// Atomics and accesses with cache hints. One OS thread runs everything, so an atomic is a
// plain read-modify-write; in the instrumented build the runtime is told of it.
#pragma once

namespace simt {

template <class T, class F>
SIMT_UNHOOKED T atomic(T* address, int line, F change) {
  if (simt_hooked) simt_atomic(address, sizeof(T), line);
  T old = *address;
  *address = change(old);
  return old;
}

}  // namespace simt

#define SIMT_ATOMIC(name, T, expression)                                                 \
  inline T name(T* address, T value, SIMT_LINE) {                                        \
    return simt::atomic(address, simt_line, [=](T old) -> T { return (T)(expression); }); \
  }                                                                                      \
  inline T name##_block(T* address, T value, SIMT_LINE) {                                \
    return name(address, value, simt_line);                                              \
  }                                                                                      \
  inline T name##_system(T* address, T value, SIMT_LINE) {                               \
    return name(address, value, simt_line);                                              \
  }
#define SIMT_ATOMIC_INTEGERS(name, expression)        \
  SIMT_ATOMIC(name, int, expression)                  \
  SIMT_ATOMIC(name, unsigned, expression)             \
  SIMT_ATOMIC(name, long long, expression)            \
  SIMT_ATOMIC(name, unsigned long long, expression)

SIMT_ATOMIC(atomicAdd, int, (unsigned)old + (unsigned)value)
SIMT_ATOMIC(atomicAdd, unsigned, old + value)
SIMT_ATOMIC(atomicAdd, unsigned long long, old + value)
SIMT_ATOMIC(atomicAdd, float, old + value)
SIMT_ATOMIC(atomicAdd, double, old + value)
SIMT_ATOMIC(atomicSub, int, (unsigned)old - (unsigned)value)
SIMT_ATOMIC(atomicSub, unsigned, old - value)
SIMT_ATOMIC(atomicExch, int, value)
SIMT_ATOMIC(atomicExch, unsigned, value)
SIMT_ATOMIC(atomicExch, unsigned long long, value)
SIMT_ATOMIC(atomicExch, float, value)
SIMT_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
SIMT_ATOMIC_INTEGERS(atomicMax, value > old ? value : old)
SIMT_ATOMIC_INTEGERS(atomicAnd, old & value)
SIMT_ATOMIC_INTEGERS(atomicOr, old | value)
SIMT_ATOMIC_INTEGERS(atomicXor, old ^ value)
SIMT_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef SIMT_ATOMIC_INTEGERS
#undef SIMT_ATOMIC

#define SIMT_CAS(T)                                                                         \
  inline T atomicCAS(T* address, T compare, T value, SIMT_LINE) {                           \
    return simt::atomic(address, simt_line, [=](T old) { return old == compare ? value : old; }); \
  }
SIMT_CAS(int)
SIMT_CAS(unsigned)
SIMT_CAS(unsigned short)
SIMT_CAS(unsigned long long)
#undef SIMT_CAS

// Macros, so that the access counts for the line that makes it.
#define __ldg(...) (*(__VA_ARGS__))
#define __ldca(...) (*(__VA_ARGS__))
#define __ldcg(...) (*(__VA_ARGS__))
#define __ldcs(...) (*(__VA_ARGS__))
#define __ldlu(...) (*(__VA_ARGS__))
#define __ldcv(...) (*(__VA_ARGS__))
#define __stwb(address, ...) ((void)(*(address) = (__VA_ARGS__)))
#define __stcg(address, ...) ((void)(*(address) = (__VA_ARGS__)))
#define __stcs(address, ...) ((void)(*(address) = (__VA_ARGS__)))
#define __stwt(address, ...) ((void)(*(address) = (__VA_ARGS__)))

inline void __trap(SIMT_LINE) { simt_trap(simt_line); }
inline void __brkpt() {}
inline void __nanosleep(unsigned) {}
inline long long clock64() { return simt_clock(); }
inline int clock() { return (int)simt_clock(); }
inline void __prof_trigger(int) {}
template <class... T>
inline int printf(const char*, T...) { return 0; }  // there is nobody to read it

#define assert(...) ((__VA_ARGS__) ? (void)0 : simt_assert(#__VA_ARGS__, __LINE__))
