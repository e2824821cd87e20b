// Instructions of inline PTX. `asm` statements arrive here translated (ptx/statements.py): operands
// are registers of the constraint's type, an instruction is one call.
#pragma once

namespace simt {
namespace ptx {

// --- registers -----------------------------------------------------------------------------

template <char constraint> struct Register;
template <> struct Register<'h'> { typedef unsigned short type; };
template <> struct Register<'r'> { typedef unsigned type; };
template <> struct Register<'l'> { typedef unsigned long long type; };
template <> struct Register<'f'> { typedef float type; };
template <> struct Register<'d'> { typedef double type; };

template <class To, class From>
__forceinline__ To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "a PTX operand has the wrong size for its instruction");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}
template <char constraint, class T>
__forceinline__ typename Register<constraint>::type input(T value) {
  static_assert(sizeof(T) == sizeof(typename Register<constraint>::type),
                "the size of an asm operand must match its constraint");
  return bits<typename Register<constraint>::type>(value);
}
template <class T, class R>
__forceinline__ void output(T& variable, R value) {
  static_assert(sizeof(T) == sizeof(R), "the size of an asm operand must match its constraint");
  __builtin_memcpy(&variable, &value, sizeof(T));
}
// Registers are untyped: any of the right size takes a result.
template <class To, class From>
__forceinline__ void set(To& to, From from) { to = bits<To>(from); }
// A load's destination may be wider: extended by the sign of the loaded type.
template <class To, class From>
__forceinline__ void set_wide(To& to, From from) {
  if constexpr (sizeof(To) == sizeof(From)) to = bits<To>(from);
  else to = (To)from;
}

template <class T> __forceinline__ unsigned b32(T x) { return bits<unsigned>(x); }
template <class T> __forceinline__ float f32(T x) { return bits<float>(x); }
__forceinline__ float f32(int x) { return (float)x; }
__forceinline__ unsigned b32(int x) { return (unsigned)x; }
__forceinline__ unsigned b32(long long x) { return (unsigned)x; }  // an immediate

__forceinline__ void* shared(unsigned long long address, int line) {
  return simt_shared_pointer(address, line);
}
__forceinline__ void* generic(unsigned long long address, int) { return (void*)address; }

// --- memory --------------------------------------------------------------------------------

template <class T, class... R>
SIMT_UNHOOKED void load(const void* from, int line, R&... to) {
  simt_access(from, sizeof(T) * sizeof...(R), 0, line);
  const T* values = (const T*)from;
  (set_wide(to, *values++), ...);
}
template <class T, class... R>
SIMT_UNHOOKED void store(void* to, int line, R... from) {
  simt_access(to, sizeof(T) * sizeof...(R), 1, line);
  T* values = (T*)to;
  ((*values++ = [](R r) {
     if constexpr (sizeof(R) == sizeof(T)) return bits<T>(r);
     else return (T)r;
   }(from)), ...);
}

// --- conversions -----------------------------------------------------------------------------

// To nearest, ties away from zero, 10 bits of mantissa; the register's low 13 bits are zero.
__forceinline__ unsigned tf32_rna(float x) {
  unsigned u = b32(x);
  if ((u & 0x7f800000) == 0x7f800000) return u;
  return (u + 0x1000) & 0xffffe000;
}
// To nearest, ties to even.
__forceinline__ unsigned tf32_rn(float x) {
  unsigned u = b32(x);
  if ((u & 0x7f800000) == 0x7f800000) return u;
  return (u + 0x0fff + ((u >> 13) & 1)) & 0xffffe000;
}
inline unsigned short bf16(float x) {
  unsigned u = b32(x);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
inline unsigned short f16(float x) {
  unsigned u = b32(x), sign = (u >> 16) & 0x8000, rest = u & 0x7fffffff;
  if (rest > 0x7f800000) return 0x7fff;
  if (rest >= 0x47800000) return (unsigned short)(sign | 0x7c00);
  if (rest < 0x38800000) return (unsigned short)(sign | (b32(f32(rest) + 0.5f) - 0x3f000000));
  rest += 0xc8000fff + ((rest >> 13) & 1);
  return (unsigned short)(sign | (rest >> 13));
}
inline float of_f16(unsigned short bits) {
  unsigned sign = (unsigned)(bits & 0x8000) << 16, rest = bits & 0x7fff;
  if (rest >= 0x7c00) return f32(sign | 0x7f800000 | ((rest & 0x3ff) << 13));
  if (rest >= 0x400) return f32(sign | ((rest + 0x1c000) << 13));
  float small = (float)rest * 5.9604644775390625e-8f;
  return sign ? -small : small;
}
__forceinline__ unsigned pair(unsigned short low, unsigned short high) {
  return low | (unsigned)high << 16;
}

// --- integers and logic ------------------------------------------------------------------------

inline unsigned lop3(unsigned a, unsigned b, unsigned c, unsigned table) {
  unsigned result = 0;
  for (int i = 0; i < 8; ++i)
    if ((table >> i) & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return result;
}

// --- matrices ------------------------------------------------------------------------------------

template <class... R>
__forceinline__ void ldmatrix(unsigned long long address, int transposed, int line, R&... to) {
  unsigned registers[sizeof...(R)];
  simt_ldmatrix(address, (int)sizeof...(R), transposed, registers, line);
  const unsigned* next = registers;
  (set(to, *next++), ...);
}
template <class... R>
__forceinline__ void stmatrix(unsigned long long address, int transposed, int line, R... from) {
  const unsigned registers[] = {b32(from)...};
  simt_stmatrix(address, (int)sizeof...(R), transposed, registers, line);
}
template <class... R>
__forceinline__ void mma(simt_Mma operands, int line, R&... to) {
  simt_mma(&operands, line);
  const unsigned* next = operands.c;
  (set(to, *next++), ...);
}

}  // namespace ptx
}  // namespace simt
