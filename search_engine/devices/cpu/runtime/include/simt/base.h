// What nvcc and NVRTC know without any header: qualifiers, sizes, the built-in variables.
// No system header is included here or anywhere below: kernels see CUDA's names alone.
#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
#define NULL 0

#define __global__ __attribute__((noinline, used))
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __grid_constant__
#define __nv_pure__ __attribute__((pure))

// Expanded from `extern __shared__ T name[]`: an array of unknown size at the start of the
// launch's dynamic shared memory.
#define SIMT_DYNAMIC_SHARED(name, ...) __VA_ARGS__* const name = (__VA_ARGS__*)simt_dynamic_shared

// Where a barrier, shuffle or atomic stands in the kernel's source: a default argument is
// evaluated at the call.
#define SIMT_LINE int simt_line = __builtin_LINE()

// Memory accesses inside are reported by an explicit call, not by the compiler's hooks.
#define SIMT_UNHOOKED __attribute__((noinline, no_sanitize("thread")))

constexpr int warpSize = 32;

extern "C" {
extern unsigned char simt_dynamic_shared[];
extern const bool simt_hooked;  // whether this is the instrumented build
extern const int simt_lane;

void simt_barrier(int line);
int simt_barrier_reduce(int kind, int predicate, int line);
void simt_grid_barrier(int line);
void simt_fence(void);
void simt_atomic(const void* address, unsigned long size, int line);
void simt_assert(const char* text, int line);
void simt_trap(int line);

struct simt_Published {
  unsigned long long value[32];  // by lane, of the last collective each took part in
};
const simt_Published* simt_exchange(int kind, unsigned mask, unsigned long long value, int line,
                                    unsigned* present);
unsigned long long simt_absent(int lane, unsigned mask, int line);
unsigned simt_converged(int line);
long long simt_clock(void);

// Memory that the headers touch for the kernel, and shared memory by its 32-bit addresses.
void simt_access(const void* address, unsigned long size, int write, int line);
void simt_misuse(const char* text, int line);
unsigned long long simt_shared_address(const void* pointer);
void* simt_shared_pointer(unsigned long long address, int line);
int simt_is_shared(const void* pointer);
void simt_copy_async(void* to, const void* from, unsigned size, unsigned taken, int line);
void simt_copy_commit(void);
void simt_copy_wait(int pending);

struct simt_Mma {
  int input;  // simt::MmaInput
  int depth;
  int half_sum;
  unsigned a[4], b[2], c[4];  // c becomes the result
};
void simt_mma(simt_Mma* operands, int line);
void simt_ldmatrix(unsigned long long address, int count, int transposed, unsigned* registers,
                   int line);
void simt_stmatrix(unsigned long long address, int count, int transposed,
                   const unsigned* registers, int line);
}

namespace simt {
enum Collective { SYNC = 1, SHUFFLE, VOTE, MATCH, REDUCE, LOAD_MATRIX, STORE_MATRIX };
enum BarrierReduction { COUNT = 1, AND, OR };
enum MmaInput { F16, BF16, TF32, S8, U8, E4M3, E5M2 };
}  // namespace simt
