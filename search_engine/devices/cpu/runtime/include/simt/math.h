// CUDA's math library and intrinsics. The fast intrinsics (__expf, __fdividef, ...) give the
// correctly rounded library's result here: their error on a GPU is larger, never smaller.
#pragma once

#define SIMT_MATH1(name)                              \
  extern "C" double name(double);                     \
  extern "C" float name##f(float);                    \
  inline float name(float x) { return name##f(x); }   \
  inline double name(int x) { return name((double)x); }
SIMT_MATH1(acos) SIMT_MATH1(acosh) SIMT_MATH1(asin) SIMT_MATH1(asinh) SIMT_MATH1(atan)
SIMT_MATH1(cbrt) SIMT_MATH1(ceil) SIMT_MATH1(cos) SIMT_MATH1(cosh)
SIMT_MATH1(erf) SIMT_MATH1(erfc) SIMT_MATH1(exp) SIMT_MATH1(exp2) SIMT_MATH1(expm1)
SIMT_MATH1(fabs) SIMT_MATH1(floor) SIMT_MATH1(log) SIMT_MATH1(log10)
SIMT_MATH1(log1p) SIMT_MATH1(log2) SIMT_MATH1(logb) SIMT_MATH1(nearbyint) SIMT_MATH1(rint)
SIMT_MATH1(round) SIMT_MATH1(sin) SIMT_MATH1(sqrt) SIMT_MATH1(tan) SIMT_MATH1(trunc)
SIMT_MATH1(j0) SIMT_MATH1(j1) SIMT_MATH1(y0) SIMT_MATH1(y1)
#undef SIMT_MATH1

// Rounded from double: glibc's own fp32 versions are an ulp or two off near zero, where
// CUDA's and torch's are not (tanhf: 5.5e-8 against 2.6e-8 on numbers around 0.3), so that
// honest kernels would be less accurate here than eager allows.
#define SIMT_ROUNDED_MATH1(name)                                    \
  extern "C" double name(double);                                   \
  inline float name##f(float x) { return (float)name((double)x); }  \
  inline float name(float x) { return name##f(x); }                 \
  inline double name(int x) { return name((double)x); }
SIMT_ROUNDED_MATH1(atanh) SIMT_ROUNDED_MATH1(lgamma) SIMT_ROUNDED_MATH1(sinh)
SIMT_ROUNDED_MATH1(tanh) SIMT_ROUNDED_MATH1(tgamma)
#undef SIMT_ROUNDED_MATH1

#define SIMT_MATH2(name)                                             \
  extern "C" double name(double, double);                            \
  extern "C" float name##f(float, float);                            \
  inline float name(float x, float y) { return name##f(x, y); }      \
  inline double name(double x, float y) { return name(x, (double)y); } \
  inline double name(float x, double y) { return name((double)x, y); } \
  inline double name(double x, int y) { return name(x, (double)y); }   \
  inline double name(int x, double y) { return name((double)x, y); }
SIMT_MATH2(atan2) SIMT_MATH2(copysign) SIMT_MATH2(fdim) SIMT_MATH2(fmod) SIMT_MATH2(hypot)
SIMT_MATH2(nextafter) SIMT_MATH2(remainder) SIMT_MATH2(fmax) SIMT_MATH2(fmin)
SIMT_MATH2(pow)
#undef SIMT_MATH2
inline float pow(float x, int y) { return powf(x, (float)y); }
inline double pow(int x, int y) { return pow((double)x, (double)y); }
inline float fmod(float x, int y) { return fmodf(x, (float)y); }

extern "C" {
double fma(double, double, double);
float fmaf(float, float, float);
double ldexp(double, int);
float ldexpf(float, int);
double scalbn(double, int);
float scalbnf(float, int);
double frexp(double, int*);
float frexpf(float, int*);
double modf(double, double*);
float modff(float, float*);
void sincos(double, double*, double*);
void sincosf(float, float*, float*);
int ilogb(double);
int ilogbf(float);
long lrint(double);
long lrintf(float);
long lround(double);
long lroundf(float);
long long llrint(double);
long long llrintf(float);
long long llround(double);
long long llroundf(float);
int abs(int);
long labs(long);
long long llabs(long long);
void* memcpy(void*, const void*, size_t);
void* memset(void*, int, size_t);
void* memmove(void*, const void*, size_t);
int memcmp(const void*, const void*, size_t);
}
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float ldexp(float x, int e) { return ldexpf(x, e); }
inline float frexp(float x, int* e) { return frexpf(x, e); }
inline float modf(float x, float* whole) { return modff(x, whole); }
inline void sincos(float x, float* s, float* c) { sincosf(x, s, c); }
inline long long llabs(int x) { return x < 0 ? -(long long)x : x; }
inline long abs(long x) { return labs(x); }
inline long long abs(long long x) { return llabs(x); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }

#define SIMT_CLASSIFY(T)                                           \
  inline bool isnan(T x) { return __builtin_isnan(x); }            \
  inline bool isinf(T x) { return __builtin_isinf(x); }            \
  inline bool isfinite(T x) { return __builtin_isfinite(x); }      \
  inline bool signbit(T x) { return __builtin_signbit(x); }        \
  inline bool isnormal(T x) { return __builtin_isnormal(x); }
SIMT_CLASSIFY(float)
SIMT_CLASSIFY(double)
#undef SIMT_CLASSIFY
inline int __isnanf(float x) { return __builtin_isnan(x); }
inline int __isinff(float x) { return __builtin_isinf(x); }
inline int __finitef(float x) { return __builtin_isfinite(x); }

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VAL __builtin_huge_val()
#define HUGE_VALF __builtin_huge_valf()
inline float nanf(const char*) { return NAN; }
inline double nan(const char*) { return __builtin_nan(""); }

// min and max of every pair of types as nvcc has them: integers by C's conversions, mixed
// signs as unsigned, NaN-ignoring for floating point.
#define SIMT_MINMAX(R, A, B)                                                   \
  inline R min(A a, B b) { return (R)a < (R)b ? (R)a : (R)b; }                 \
  inline R max(A a, B b) { return (R)a > (R)b ? (R)a : (R)b; }
SIMT_MINMAX(int, int, int)
SIMT_MINMAX(unsigned, unsigned, unsigned)
SIMT_MINMAX(unsigned, int, unsigned)
SIMT_MINMAX(unsigned, unsigned, int)
SIMT_MINMAX(long, long, long)
SIMT_MINMAX(unsigned long, unsigned long, unsigned long)
SIMT_MINMAX(unsigned long, long, unsigned long)
SIMT_MINMAX(unsigned long, unsigned long, long)
SIMT_MINMAX(long long, long long, long long)
SIMT_MINMAX(unsigned long long, unsigned long long, unsigned long long)
SIMT_MINMAX(unsigned long long, long long, unsigned long long)
SIMT_MINMAX(unsigned long long, unsigned long long, long long)
#undef SIMT_MINMAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin((double)a, b); }
inline double max(float a, double b) { return fmax((double)a, b); }
inline double min(double a, float b) { return fmin(a, (double)b); }
inline double max(double a, float b) { return fmax(a, (double)b); }
inline unsigned umin(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned umax(unsigned a, unsigned b) { return a > b ? a : b; }
inline long long llmin(long long a, long long b) { return a < b ? a : b; }
inline long long llmax(long long a, long long b) { return a > b ? a : b; }

// --- functions that C does not have ------------------------------------------------------
inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float rcbrtf(float x) { return (float)(1.0 / cbrt((double)x)); }
inline double rcbrt(double x) { return 1.0 / cbrt(x); }
inline float exp10f(float x) { return (float)pow(10.0, (double)x); }
inline double exp10(double x) { return pow(10.0, x); }
inline float exp10(float x) { return exp10f(x); }
namespace simt { constexpr double PI = 3.14159265358979323846, SQRT_HALF = 0.70710678118654752440; }
inline double sinpi(double x) { return sin(simt::PI * fmod(x, 2.0)); }
inline double cospi(double x) { return cos(simt::PI * fmod(x, 2.0)); }
inline float sinpif(float x) { return (float)sinpi((double)x); }
inline float cospif(float x) { return (float)cospi((double)x); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline double normcdf(double x) { return 0.5 * erfc(-x * simt::SQRT_HALF); }
inline float normcdff(float x) { return (float)normcdf((double)x); }
inline double erfcx(double x) { return exp(x * x) * erfc(x); }
inline float erfcxf(float x) { return (float)erfcx((double)x); }
inline float fdividef(float x, float y) { return x / y; }
inline float rhypotf(float x, float y) { return (float)(1.0 / hypot((double)x, (double)y)); }
inline float norm3df(float a, float b, float c) {
  return (float)sqrt((double)a * a + (double)b * b + (double)c * c);
}
inline float norm4df(float a, float b, float c, float d) {
  return (float)sqrt((double)a * a + (double)b * b + (double)c * c + (double)d * d);
}
inline float rnorm3df(float a, float b, float c) { return 1.0f / norm3df(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// --- fast intrinsics ---------------------------------------------------------------------
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }

// --- arithmetic that must be neither fused nor reordered -----------------------------------
namespace simt {
template <class T>
__forceinline__ T separate(T x) {  // keeps the compiler from contracting x into an fma
#if defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}
// Directed rounding of a sum, product or quotient known in double precision.
inline float toward(double exact, int direction) {
  float nearest = (float)exact;
  if ((double)nearest == exact || __builtin_isnan(nearest)) return nearest;
  bool above = (double)nearest > exact;
  if (direction < 0 && above) return nextafterf(nearest, -__builtin_inff());
  if (direction > 0 && !above) return nextafterf(nearest, __builtin_inff());
  if (direction == 0 && fabs((double)nearest) > fabs(exact)) return nextafterf(nearest, 0.0f);
  return nearest;
}
}  // namespace simt
#define SIMT_ROUNDED(name, parameters, exact)                                      \
  inline float name##_rz parameters { return simt::toward(exact, 0); }            \
  inline float name##_ru parameters { return simt::toward(exact, 1); }            \
  inline float name##_rd parameters { return simt::toward(exact, -1); }
SIMT_ROUNDED(__fadd, (float a, float b), (double)a + (double)b)
SIMT_ROUNDED(__fsub, (float a, float b), (double)a - (double)b)
SIMT_ROUNDED(__fmul, (float a, float b), (double)a * (double)b)
SIMT_ROUNDED(__fdiv, (float a, float b), (double)a / (double)b)
SIMT_ROUNDED(__frcp, (float a), 1.0 / (double)a)
SIMT_ROUNDED(__fsqrt, (float a), sqrt((double)a))
SIMT_ROUNDED(__fmaf, (float a, float b, float c), fma((double)a, (double)b, (double)c))
#undef SIMT_ROUNDED
inline float __fadd_rn(float a, float b) { return simt::separate(simt::separate(a) + b); }
inline float __fsub_rn(float a, float b) { return simt::separate(simt::separate(a) - b); }
inline float __fmul_rn(float a, float b) { return simt::separate(a * b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return simt::separate(simt::separate(a) + b); }
inline double __dsub_rn(double a, double b) { return simt::separate(simt::separate(a) - b); }
inline double __dmul_rn(double a, double b) { return simt::separate(a * b); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// --- integers ------------------------------------------------------------------------------
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned long long __brevll(unsigned long long x) {
  unsigned long long r = 0;
  for (int i = 0; i < 64; ++i) r |= ((x >> i) & 1) << (63 - i);
  return r;
}
inline unsigned __brev(unsigned x) { return (unsigned)(__brevll(x) >> 32); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  unsigned long long both = ((unsigned long long)b << 32) | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned selector = (s >> (4 * i)) & 0xf;
    unsigned byte = (unsigned)(both >> (8 * (selector & 7))) & 0xff;
    if (selector & 8) byte = byte & 0x80 ? 0xff : 0;
    r |= byte << (8 * i);
  }
  return r;
}
inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)(((unsigned long long)a * b) >> 32);
}
inline long long __mul64hi(long long a, long long b) { return (long long)(((__int128)a * b) >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline int __mul24(int a, int b) { return ((a << 8) >> 8) * ((b << 8) >> 8); }
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffff) * (b & 0xffffff); }
inline unsigned __sad(int a, int b, unsigned c) { return c + (unsigned)(a > b ? a - b : b - a); }
inline unsigned __usad(unsigned a, unsigned b, unsigned c) { return c + (a > b ? a - b : b - a); }
inline int __hadd(int a, int b) { return (int)(((long long)a + b) >> 1); }
inline int __rhadd(int a, int b) { return (int)(((long long)a + b + 1) >> 1); }
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)(((((unsigned long long)hi << 32) | lo) << (n & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)((((unsigned long long)hi << 32) | lo) >> (n & 31));
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += (signed char)(a >> (8 * i)) * (signed char)(b >> (8 * i));
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += ((a >> (8 * i)) & 0xff) * ((b >> (8 * i)) & 0xff);
  return c;
}

// --- conversions -----------------------------------------------------------------------------
namespace simt {
template <class To, class From>
__forceinline__ To cast_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}
// Saturating, NaN to zero, as the GPU's conversions are.
template <class To, class From>
inline To saturated(From x, To least, To most) {
  if (x != x) return 0;
  if (x <= (From)least) return least;
  if (x >= (From)most) return most;
  return (To)x;
}
inline int to_int(double x) { return saturated<int>(x, -2147483647 - 1, 2147483647); }
inline unsigned to_uint(double x) { return saturated<unsigned>(x, 0u, 4294967295u); }
inline long long to_ll(double x) {
  return saturated<long long>(x, -9223372036854775807LL - 1, 9223372036854775807LL);
}
inline unsigned long long to_ull(double x) {
  return saturated<unsigned long long>(x, 0ull, 18446744073709551615ull);
}
}  // namespace simt
inline int __float_as_int(float x) { return simt::cast_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return simt::cast_bits<unsigned>(x); }
inline float __int_as_float(int x) { return simt::cast_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return simt::cast_bits<float>(x); }
inline long long __double_as_longlong(double x) { return simt::cast_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return simt::cast_bits<double>(x); }
inline int __double2hiint(double x) { return (int)(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return (int)__double_as_longlong(x); }
inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double(((long long)hi << 32) | (unsigned)lo);
}
#define SIMT_TO_INTEGER(prefix, F)                                                        \
  inline int prefix##2int_rn(F x) { return simt::to_int(rint((double)x)); }               \
  inline int prefix##2int_rz(F x) { return simt::to_int(trunc((double)x)); }              \
  inline int prefix##2int_ru(F x) { return simt::to_int(ceil((double)x)); }               \
  inline int prefix##2int_rd(F x) { return simt::to_int(floor((double)x)); }              \
  inline unsigned prefix##2uint_rn(F x) { return simt::to_uint(rint((double)x)); }        \
  inline unsigned prefix##2uint_rz(F x) { return simt::to_uint(trunc((double)x)); }       \
  inline unsigned prefix##2uint_ru(F x) { return simt::to_uint(ceil((double)x)); }        \
  inline unsigned prefix##2uint_rd(F x) { return simt::to_uint(floor((double)x)); }       \
  inline long long prefix##2ll_rn(F x) { return simt::to_ll(rint((double)x)); }           \
  inline long long prefix##2ll_rz(F x) { return simt::to_ll(trunc((double)x)); }          \
  inline unsigned long long prefix##2ull_rn(F x) { return simt::to_ull(rint((double)x)); } \
  inline unsigned long long prefix##2ull_rz(F x) { return simt::to_ull(trunc((double)x)); }
SIMT_TO_INTEGER(__float, float)
SIMT_TO_INTEGER(__double, double)
#undef SIMT_TO_INTEGER
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __ll2float_rn(long long x) { return (float)x; }
inline float __ull2float_rn(unsigned long long x) { return (float)x; }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return (double)x; }
inline float __double2float_rn(double x) { return (float)x; }
inline float __double2float_rz(double x) { return simt::toward(x, 0); }
inline float __int2float_rz(int x) { return simt::toward((double)x, 0); }
