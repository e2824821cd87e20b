// What half and bfloat16 have in common: arithmetic through float, rounded after every
// operation. A float has more than twice the bits of either, so the sum, product, quotient
// and root come out correctly rounded (Figueroa, "When is double rounding innocuous?", 1995).
#pragma once

// T: the type, T2: the pair of it, make: float -> T.
#define SIMT_NARROW_ARITHMETIC(T, T2)                                                            \
  inline T operator+(const T& a, const T& b) { return T((float)a + (float)b); }                  \
  inline T operator-(const T& a, const T& b) { return T((float)a - (float)b); }                  \
  inline T operator*(const T& a, const T& b) { return T((float)a * (float)b); }                  \
  inline T operator/(const T& a, const T& b) { return T((float)a / (float)b); }                  \
  inline T operator+(const T& a) { return a; }                                                   \
  inline T operator-(const T& a) { return T::from_bits((unsigned short)(a.__x ^ 0x8000)); }      \
  inline T& operator+=(T& a, const T& b) { return a = a + b; }                                   \
  inline T& operator-=(T& a, const T& b) { return a = a - b; }                                   \
  inline T& operator*=(T& a, const T& b) { return a = a * b; }                                   \
  inline T& operator/=(T& a, const T& b) { return a = a / b; }                                   \
  inline T& operator++(T& a) { return a = a + T(1.0f); }                                         \
  inline T& operator--(T& a) { return a = a - T(1.0f); }                                         \
  inline bool operator==(const T& a, const T& b) { return (float)a == (float)b; }                \
  inline bool operator!=(const T& a, const T& b) { return (float)a != (float)b; }                \
  inline bool operator<(const T& a, const T& b) { return (float)a < (float)b; }                  \
  inline bool operator>(const T& a, const T& b) { return (float)a > (float)b; }                  \
  inline bool operator<=(const T& a, const T& b) { return (float)a <= (float)b; }                \
  inline bool operator>=(const T& a, const T& b) { return (float)a >= (float)b; }                \
  inline T __hadd(T a, T b) { return a + b; }                                                    \
  inline T __hsub(T a, T b) { return a - b; }                                                    \
  inline T __hmul(T a, T b) { return a * b; }                                                    \
  inline T __hdiv(T a, T b) { return a / b; }                                                    \
  inline T __hadd_rn(T a, T b) { return a + b; }                                                 \
  inline T __hsub_rn(T a, T b) { return a - b; }                                                 \
  inline T __hmul_rn(T a, T b) { return a * b; }                                                 \
  inline T __hneg(T a) { return -a; }                                                            \
  inline T __habs(T a) { return T::from_bits((unsigned short)(a.__x & 0x7fff)); }                \
  inline T __hfma(T a, T b, T c) {                                                               \
    return T((float)((double)(float)a * (double)(float)b + (double)(float)c));                   \
  }                                                                                              \
  inline T __hfma_relu(T a, T b, T c) {                                                          \
    T r = __hfma(a, b, c);                                                                       \
    return (float)r < 0.0f ? T(0.0f) : r;                                                        \
  }                                                                                              \
  inline T __hmax(T a, T b) { return T(fmaxf((float)a, (float)b)); }                             \
  inline T __hmin(T a, T b) { return T(fminf((float)a, (float)b)); }                             \
  inline bool __heq(T a, T b) { return a == b; }                                                 \
  inline bool __hne(T a, T b) { return a != b; }                                                 \
  inline bool __hlt(T a, T b) { return a < b; }                                                  \
  inline bool __hle(T a, T b) { return a <= b; }                                                 \
  inline bool __hgt(T a, T b) { return a > b; }                                                  \
  inline bool __hge(T a, T b) { return a >= b; }                                                 \
  inline bool __hisnan(T a) { return isnan((float)a); }                                          \
  inline int __hisinf(T a) { return isinf((float)a) ? ((float)a > 0.0f ? 1 : -1) : 0; }          \
  inline T hexp(T a) { return T(expf((float)a)); }                                               \
  inline T hexp2(T a) { return T(exp2f((float)a)); }                                             \
  inline T hexp10(T a) { return T(exp10f((float)a)); }                                           \
  inline T hlog(T a) { return T(logf((float)a)); }                                               \
  inline T hlog2(T a) { return T(log2f((float)a)); }                                             \
  inline T hlog10(T a) { return T(log10f((float)a)); }                                           \
  inline T hsin(T a) { return T(sinf((float)a)); }                                               \
  inline T hcos(T a) { return T(cosf((float)a)); }                                               \
  inline T htanh(T a) { return T(tanhf((float)a)); }                                             \
  inline T hsqrt(T a) { return T(sqrtf((float)a)); }                                             \
  inline T hrsqrt(T a) { return T(rsqrtf((float)a)); }                                           \
  inline T hrcp(T a) { return T(1.0f / (float)a); }                                              \
  inline T hfloor(T a) { return T(floorf((float)a)); }                                           \
  inline T hceil(T a) { return T(ceilf((float)a)); }                                             \
  inline T htrunc(T a) { return T(truncf((float)a)); }                                           \
  inline T hrint(T a) { return T(rintf((float)a)); }                                             \
  inline T2 operator+(const T2& a, const T2& b) { return T2(a.x + b.x, a.y + b.y); }             \
  inline T2 operator-(const T2& a, const T2& b) { return T2(a.x - b.x, a.y - b.y); }             \
  inline T2 operator*(const T2& a, const T2& b) { return T2(a.x * b.x, a.y * b.y); }             \
  inline T2 operator/(const T2& a, const T2& b) { return T2(a.x / b.x, a.y / b.y); }             \
  inline T2 operator-(const T2& a) { return T2(-a.x, -a.y); }                                    \
  inline T2& operator+=(T2& a, const T2& b) { return a = a + b; }                                \
  inline T2& operator-=(T2& a, const T2& b) { return a = a - b; }                                \
  inline T2& operator*=(T2& a, const T2& b) { return a = a * b; }                                \
  inline T2& operator/=(T2& a, const T2& b) { return a = a / b; }                                \
  inline bool operator==(const T2& a, const T2& b) { return a.x == b.x && a.y == b.y; }          \
  inline bool operator!=(const T2& a, const T2& b) { return a.x != b.x && a.y != b.y; }          \
  inline T2 __hadd2(T2 a, T2 b) { return a + b; }                                                \
  inline T2 __hsub2(T2 a, T2 b) { return a - b; }                                                \
  inline T2 __hmul2(T2 a, T2 b) { return a * b; }                                                \
  inline T2 __h2div(T2 a, T2 b) { return a / b; }                                                \
  inline T2 __hneg2(T2 a) { return -a; }                                                         \
  inline T2 __habs2(T2 a) { return T2(__habs(a.x), __habs(a.y)); }                               \
  inline T2 __hfma2(T2 a, T2 b, T2 c) { return T2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)); } \
  inline T2 __hmax2(T2 a, T2 b) { return T2(__hmax(a.x, b.x), __hmax(a.y, b.y)); }               \
  inline T2 __hmin2(T2 a, T2 b) { return T2(__hmin(a.x, b.x), __hmin(a.y, b.y)); }               \
  inline T2 h2exp(T2 a) { return T2(hexp(a.x), hexp(a.y)); }                                     \
  inline T2 h2exp2(T2 a) { return T2(hexp2(a.x), hexp2(a.y)); }                                  \
  inline T2 h2log(T2 a) { return T2(hlog(a.x), hlog(a.y)); }                                     \
  inline T2 h2log2(T2 a) { return T2(hlog2(a.x), hlog2(a.y)); }                                  \
  inline T2 h2sin(T2 a) { return T2(hsin(a.x), hsin(a.y)); }                                     \
  inline T2 h2cos(T2 a) { return T2(hcos(a.x), hcos(a.y)); }                                     \
  inline T2 h2tanh(T2 a) { return T2(htanh(a.x), htanh(a.y)); }                                  \
  inline T2 h2sqrt(T2 a) { return T2(hsqrt(a.x), hsqrt(a.y)); }                                  \
  inline T2 h2rsqrt(T2 a) { return T2(hrsqrt(a.x), hrsqrt(a.y)); }                               \
  inline T2 h2rcp(T2 a) { return T2(hrcp(a.x), hrcp(a.y)); }                                     \
  inline T atomicAdd(T* address, T value, SIMT_LINE) {                                           \
    return simt::atomic(address, simt_line, [=](T old) { return old + value; });                 \
  }                                                                                              \
  inline T2 atomicAdd(T2* address, T2 value, SIMT_LINE) {                                        \
    return simt::atomic(address, simt_line, [=](T2 old) { return old + value; });                \
  }

// Integers in and out, rounded as the names say.
#define SIMT_NARROW_INTEGERS(T, name)                                          \
  inline int __##name##2int_rn(T a) { return __float2int_rn((float)a); }       \
  inline int __##name##2int_rz(T a) { return __float2int_rz((float)a); }       \
  inline int __##name##2int_ru(T a) { return __float2int_ru((float)a); }       \
  inline int __##name##2int_rd(T a) { return __float2int_rd((float)a); }       \
  inline unsigned __##name##2uint_rn(T a) { return __float2uint_rn((float)a); } \
  inline unsigned __##name##2uint_rz(T a) { return __float2uint_rz((float)a); } \
  inline T __int2##name##_rn(int a) { return T((float)a); }                    \
  inline T __uint2##name##_rn(unsigned a) { return T((float)a); }              \
  inline short __##name##_as_short(T a) { return (short)a.__x; }               \
  inline unsigned short __##name##_as_ushort(T a) { return a.__x; }            \
  inline T __short_as_##name(short a) { return T::from_bits((unsigned short)a); } \
  inline T __ushort_as_##name(unsigned short a) { return T::from_bits(a); }

#define SIMT_NARROW_CONSTRUCTORS(T)                          \
  T() = default;                                             \
  T(float x) : __x(bits_of(x)) {}                            \
  T(double x) : __x(bits_of((float)x)) {}                    \
  T(int x) : __x(bits_of((float)x)) {}                       \
  T(unsigned x) : __x(bits_of((float)x)) {}                  \
  T(short x) : __x(bits_of((float)x)) {}                     \
  T(unsigned short x) : __x(bits_of((float)x)) {}            \
  T(long x) : __x(bits_of((float)x)) {}                      \
  T(unsigned long x) : __x(bits_of((float)x)) {}             \
  T(long long x) : __x(bits_of((float)x)) {}                 \
  T(unsigned long long x) : __x(bits_of((float)x)) {}        \
  static T from_bits(unsigned short bits) {                  \
    T result;                                                \
    result.__x = bits;                                       \
    return result;                                           \
  }
