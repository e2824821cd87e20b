// CUDA's half and half2.
#pragma once
#include "simt/narrow.h"

struct __half_raw { unsigned short x; };
struct __half2_raw { unsigned short x, y; };

struct __align__(2) __half {
  unsigned short __x;
  SIMT_NARROW_CONSTRUCTORS(__half)
  __half(__half_raw r) : __x(r.x) {}
  operator __half_raw() const { return __half_raw{__x}; }
  operator float() const { return value_of(__x); }

  static float value_of(unsigned short bits) {
#if defined(__F16C__) && !defined(__clang__)
    typedef short V8 __attribute__((vector_size(16)));
    typedef float V4 __attribute__((vector_size(16)));
    V4 wide = __builtin_ia32_vcvtph2ps(V8{(short)bits});
    return wide[0];
#else
    unsigned sign = (unsigned)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | ((rest & 0x3ff) << 13));
    if (rest >= 0x400) return __uint_as_float(sign | ((rest + 0x1c000) << 13));
    float small = (float)rest * 5.9604644775390625e-8f;  // 2^-24: subnormal
    return sign ? -small : small;
#endif
  }
  static unsigned short bits_of(float x) {  // to nearest, ties to even
#if defined(__F16C__) && !defined(__clang__)
    typedef short V8 __attribute__((vector_size(16)));
    typedef float V4 __attribute__((vector_size(16)));
    V8 narrow = __builtin_ia32_vcvtps2ph(V4{x}, 0);
    return (unsigned short)narrow[0];
#else
    unsigned u = __float_as_uint(x), sign = (u >> 16) & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) return (unsigned short)(sign | 0x7e00 | ((rest >> 13) & 0x1ff));
    if (rest >= 0x47800000) return (unsigned short)(sign | 0x7c00);
    if (rest < 0x38800000) {  // subnormal: adding 0.5 rounds at 2^-24
      float shifted = __uint_as_float(rest) + 0.5f;
      return (unsigned short)(sign | (__float_as_uint(shifted) - 0x3f000000));
    }
    rest += 0xc8000fff + ((rest >> 13) & 1);
    return (unsigned short)(sign | (rest >> 13));
#endif
  }
};

struct __align__(4) __half2 {
  __half x, y;
  __half2() = default;
  __half2(__half a, __half b) : x(a), y(b) {}
};

typedef __half half;
typedef __half2 half2;
typedef __half nv_half;
typedef __half2 nv_half2;

SIMT_NARROW_ARITHMETIC(__half, __half2)
SIMT_NARROW_INTEGERS(__half, half)

inline float __half2float(__half a) { return (float)a; }
inline __half __float2half(float a) { return __half(a); }
inline __half __float2half_rn(float a) { return __half(a); }
inline __half __double2half(double a) { return __half((float)a); }
inline __half2 make_half2(__half a, __half b) { return __half2(a, b); }
inline __half2 __halves2half2(__half a, __half b) { return __half2(a, b); }
inline __half2 __half2half2(__half a) { return __half2(a, a); }
inline __half2 __float2half2_rn(float a) { return __half2(__half(a), __half(a)); }
inline __half2 __floats2half2_rn(float a, float b) { return __half2(__half(a), __half(b)); }
inline __half2 __float22half2_rn(float2 a) { return __half2(__half(a.x), __half(a.y)); }
inline float2 __half22float2(__half2 a) { return make_float2((float)a.x, (float)a.y); }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline float __low2float(__half2 a) { return (float)a.x; }
inline float __high2float(__half2 a) { return (float)a.y; }
inline __half2 __low2half2(__half2 a) { return __half2(a.x, a.x); }
inline __half2 __high2half2(__half2 a) { return __half2(a.y, a.y); }
inline __half2 __lowhigh2highlow(__half2 a) { return __half2(a.y, a.x); }

#define CUDART_INF_FP16 __ushort_as_half((unsigned short)0x7C00U)
#define CUDART_NAN_FP16 __ushort_as_half((unsigned short)0x7FFFU)
#define CUDART_ZERO_FP16 __ushort_as_half((unsigned short)0x0000U)
#define CUDART_ONE_FP16 __ushort_as_half((unsigned short)0x3C00U)
#define CUDART_MAX_NORMAL_FP16 __ushort_as_half((unsigned short)0x7BFFU)

namespace simt {
template <> struct Kind<__half> { static constexpr char letter = 'h'; };
}
