// What a warp's matrix instructions do: mma.sync, ldmatrix, stmatrix.
//
// The lanes publish their operands and wait for each other; the lowest lane runs first
// afterwards and computes for all, in the operands of those that still wait.
//
// Registers hold their elements as the PTX ISA's "Matrix fragments for mma" lay them out. With e
// elements in a register, lane = 4 g + t, register j, element i:
//   A  row g + 8 (j mod 2), column e t + i + 4 e floor(j / 2)
//   B  row e t + i + 4 e j, column g
//   C  rows g and g + 8, columns 2 t and 2 t + 1
#include <cmath>
#include <cstring>

#include "runtime.h"

namespace simt {

extern "C" {
struct simt_Published {
  uint64_t value[32];
};
const simt_Published* simt_exchange(int kind, unsigned mask, unsigned long long value, int line,
                                    unsigned* present);
void simt_access(const void* address, unsigned long size, int write, int line);
void simt_misuse(const char* text, int line);
void* simt_shared_pointer(unsigned long long address, int line);
}

// The headers' own struct (simt/tensor.h).
struct Mma {
  int input;  // see below
  int depth;  // K
  int half_sum;
  uint32_t a[4], b[2], c[4];  // c becomes the result
};

enum Input { F16, BF16, TF32, S8, U8, E4M3, E5M2 };

static float half_value(uint32_t bits) {
  uint32_t sign = (bits & 0x8000) << 16, rest = bits & 0x7fff, wide;
  if (rest < 0x400) {
    float small = (float)rest * 5.9604644775390625e-8f;
    return sign ? -small : small;
  }
  wide = rest >= 0x7c00 ? sign | 0x7f800000 | ((rest & 0x3ff) << 13)
                        : sign | ((rest + 0x1c000) << 13);
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

static uint32_t half_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  uint32_t sign = (u >> 16) & 0x8000, rest = u & 0x7fffffff;
  if (rest > 0x7f800000) return sign | 0x7fff;
  if (rest >= 0x47800000) return sign | 0x7c00;
  if (rest < 0x38800000) {
    float shifted;
    memcpy(&shifted, &rest, 4);
    shifted += 0.5f;
    memcpy(&rest, &shifted, 4);
    return sign | (rest - 0x3f000000);
  }
  rest += 0xc8000fff + ((rest >> 13) & 1);
  return sign | (rest >> 13);
}

// 8-bit floating point: `bias` and bits of the mantissa.
static float small_value(uint32_t bits, int mantissa, int bias, bool infinities) {
  uint32_t exponent = (bits & 0x7f) >> mantissa, rest = bits & ((1u << mantissa) - 1);
  uint32_t top = 0x7fu >> mantissa;
  float value;
  if (infinities && exponent == top) value = rest ? NAN : INFINITY;
  else if (!infinities && (bits & 0x7f) == 0x7f) value = NAN;
  else if (exponent == 0) value = ldexpf((float)rest, 1 - bias - mantissa);
  else value = ldexpf((float)(rest + (1u << mantissa)), (int)exponent - bias - mantissa);
  return bits & 0x80 ? -value : value;
}

// Element i of a register. TF32 has a mantissa of 10 bits: the unit ignores the 13 below.
static float element(int input, uint32_t bits, int i) {
  float value;
  switch (input) {
    case F16: return half_value((bits >> (16 * i)) & 0xffff);
    case BF16: bits = i ? bits & 0xffff0000 : bits << 16; break;
    case TF32: bits &= 0xffffe000; break;
    case S8: return (float)(int8_t)(bits >> (8 * i));
    case U8: return (float)(uint8_t)(bits >> (8 * i));
    case E4M3: return small_value((bits >> (8 * i)) & 0xff, 3, 7, false);
    default: return small_value((bits >> (8 * i)) & 0xff, 2, 15, true);
  }
  memcpy(&value, &bits, 4);
  return value;
}

// Tensor cores add the exact products and the accumulator with two or three bits beyond fp32's
// and cut the sum off toward zero (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA
// tensor cores", PeerJ CS 2021; Li et al., "FTTN", 2024, for Hopper): long sums in the accumulator
// lose accuracy here as they do there.
static float toward_zero(double exact) {
  float nearest = (float)exact;
  if (std::fabs((double)nearest) <= std::fabs(exact) || std::isnan(exact)) return nearest;
  return nextafterf(nearest, 0.0f);
}

static void multiply(const simt_Published* lanes, const Mma& shape) {
  constexpr int M = 16, N = 8, MOST = 32;
  float a[M][MOST], b[MOST][N];
  int depth = shape.depth;
  int e = shape.input == TF32 ? 1 : shape.input <= BF16 ? 2 : 4;
  int count = depth / (4 * e);  // registers of B; A has twice as many
  for (int lane = 0; lane < 32; ++lane) {
    const Mma& m = *(const Mma*)lanes->value[lane];
    int g = lane >> 2, t = lane & 3;
    for (int i = 0; i < e; ++i) {
      for (int j = 0; j < 2 * count; ++j)
        a[g + 8 * (j & 1)][e * t + i + 4 * e * (j >> 1)] = element(m.input, m.a[j], i);
      for (int j = 0; j < count; ++j)
        b[e * t + i + 4 * e * j][g] = element(m.input, m.b[j], i);
    }
  }
  bool whole = shape.input == S8 || shape.input == U8;
  for (int row = 0; row < M; ++row) {
    double sum[N] = {};
    for (int k = 0; k < depth; ++k)
      for (int n = 0; n < N; ++n) sum[n] += (double)a[row][k] * (double)b[k][n];
    for (int n = 0; n < N; ++n) {
      Mma& m = *(Mma*)lanes->value[4 * (row & 7) + n / 2];
      int j = (n & 1) + 2 * (row >> 3);
      if (whole) {
        m.c[j] += (uint32_t)(int32_t)sum[n];
      } else if (m.half_sum) {
        uint32_t shift = 16 * (j & 1);
        uint32_t old = (m.c[j >> 1] >> shift) & 0xffff;
        uint32_t made = half_bits((float)(sum[n] + (double)half_value(old)));
        m.c[j >> 1] = (m.c[j >> 1] & ~(0xffffu << shift)) | (made << shift);
      } else {
        float c;
        memcpy(&c, &m.c[j], 4);
        c = toward_zero(sum[n] + (double)c);
        memcpy(&m.c[j], &c, 4);
      }
    }
  }
}

static const simt_Published* meet(int kind, void* operands, const char* name, int line) {
  unsigned present;
  const simt_Published* lanes =
      simt_exchange(kind, ~0u, (unsigned long long)operands, line, &present);
  if (present != ~0u) {
    char text[96];
    __builtin_snprintf(text, sizeof text, "%s needs all 32 lanes of the warp (here: %#x)", name,
                       present);
    report("divergent-shuffle", text, 0, line);
    end_launch_from_thread();
  }
  return lanes;
}

extern "C" void simt_mma(Mma* operands, int line) {
  int kind = 32 + operands->input * 20 + operands->depth / 4 * 2 + operands->half_sum;
  const simt_Published* lanes = meet(kind, operands, "mma.sync", line);
  if ((thread_index & 31) != 0) return;
  if (mode == Mode::count) count_mma(operands->input, 2ull * 16 * 8 * (uint64_t)operands->depth);
  multiply(lanes, *operands);
}

// --- 8 by 8 matrices of 16-bit elements -------------------------------------------------------

struct Rows {
  uint16_t row[8];
  uint32_t registers[4];
};

// Element (row, column) of matrix m is half `i` of register m of this lane.
static int lane_of(int row, int column, bool transposed, int* i) {
  if (transposed) {
    int swapped = row;
    row = column, column = swapped;
  }
  *i = column & 1;
  return 4 * row + column / 2;
}

extern "C" void simt_ldmatrix(unsigned long long address, int count, int transposed,
                              uint32_t* registers, int line) {
  Rows mine = {};
  int lane = (int)(thread_index & 31);
  if (lane < 8 * count) {
    void* from = simt_shared_pointer(address, line);
    simt_access(from, 16, 0, line);
    memcpy(mine.row, from, 16);
  }
  const simt_Published* lanes = meet(8 + 2 * count + transposed, &mine, "ldmatrix", line);
  if (lane == 0)
    for (int m = 0; m < count; ++m)
      for (int row = 0; row < 8; ++row)
        for (int column = 0; column < 8; ++column) {
          int i, to = lane_of(row, column, transposed, &i);
          uint32_t value = ((const Rows*)lanes->value[8 * m + row])->row[column];
          ((Rows*)lanes->value[to])->registers[m] |= value << (16 * i);
        }
  memcpy(registers, mine.registers, 4 * (size_t)count);
}

extern "C" void simt_stmatrix(unsigned long long address, int count, int transposed,
                              const uint32_t* registers, int line) {
  Rows mine = {};
  int lane = (int)(thread_index & 31);
  memcpy(mine.registers, registers, 4 * (size_t)count);
  const simt_Published* lanes = meet(18 + 2 * count + transposed, &mine, "stmatrix", line);
  if (lane == 0)
    for (int m = 0; m < count; ++m)
      for (int row = 0; row < 8; ++row)
        for (int column = 0; column < 8; ++column) {
          int i, from = lane_of(row, column, transposed, &i);
          uint32_t value = ((const Rows*)lanes->value[from])->registers[m] >> (16 * i);
          ((Rows*)lanes->value[8 * m + row])->row[column] = (uint16_t)value;
        }
  if (lane >= 8 * count) return;
  void* to = simt_shared_pointer(address, line);
  simt_access(to, 16, 1, line);
  memcpy(to, mine.row, 16);
}

}  // namespace simt
