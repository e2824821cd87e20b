// CUDA's vector types: sizes and alignments of the programming guide, table "Alignment
// requirements". They are trivial, so that unions and shared arrays of them work and one
// assignment is one access.
#pragma once

#define SIMT_VECTORS(T, name, a1, a2, a3, a4)                                              \
  struct __align__(a1) name##1 { T x; };                                                   \
  struct __align__(a2) name##2 { T x, y; };                                                \
  struct __align__(a3) name##3 { T x, y, z; };                                             \
  struct __align__(a4) name##4 { T x, y, z, w; };                                          \
  inline name##1 make_##name##1(T x) { return name##1{x}; }                                \
  inline name##2 make_##name##2(T x, T y) { return name##2{x, y}; }                        \
  inline name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; }                \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; }

SIMT_VECTORS(signed char, char, 1, 2, 1, 4)
SIMT_VECTORS(unsigned char, uchar, 1, 2, 1, 4)
SIMT_VECTORS(short, short, 2, 4, 2, 8)
SIMT_VECTORS(unsigned short, ushort, 2, 4, 2, 8)
SIMT_VECTORS(int, int, 4, 8, 4, 16)
SIMT_VECTORS(unsigned int, uint, 4, 8, 4, 16)
SIMT_VECTORS(long, long, 8, 16, 8, 16)
SIMT_VECTORS(unsigned long, ulong, 8, 16, 8, 16)
SIMT_VECTORS(long long, longlong, 8, 16, 8, 16)
SIMT_VECTORS(unsigned long long, ulonglong, 8, 16, 8, 16)
SIMT_VECTORS(float, float, 4, 8, 4, 16)
SIMT_VECTORS(double, double, 8, 16, 8, 16)
#undef SIMT_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return uint3{x, y, z}; }
};

// Without constructors, so that compilers treat these as the constants that they are.
struct simt_Extent {
  unsigned x, y, z;
  operator dim3() const { return dim3(x, y, z); }
  operator uint3() const { return uint3{x, y, z}; }
};

// Constant while a thread runs; the scheduler sets them before it resumes one.
extern const uint3 threadIdx __asm__("simt_thread_index");
extern const uint3 blockIdx __asm__("simt_block_index");
extern const simt_Extent blockDim __asm__("simt_block_size");
extern const simt_Extent gridDim __asm__("simt_grid_size");
