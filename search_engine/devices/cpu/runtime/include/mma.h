// nvcuda::wmma: matrices of a warp. Fragments hold their elements as mma.sync does (simt/ptx.h),
// in as many elements as nvcc's, so that a product is a few of those instructions.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}  // namespace precision

namespace details {

// What an element of a fragment is: its type in C++, how many share a register, the
// instruction's name for it.
template <class T> struct Element { static constexpr int per_register = 0; };
template <> struct Element<__half> {
  typedef __half type;
  static constexpr int per_register = 2, input = simt::F16;
};
template <> struct Element<__nv_bfloat16> {
  typedef __nv_bfloat16 type;
  static constexpr int per_register = 2, input = simt::BF16;
};
template <> struct Element<precision::tf32> {
  typedef float type;
  static constexpr int per_register = 1, input = simt::TF32;
};
template <> struct Element<signed char> {
  typedef signed char type;
  static constexpr int per_register = 4, input = simt::S8;
};
template <> struct Element<unsigned char> {
  typedef unsigned char type;
  static constexpr int per_register = 4, input = simt::U8;
};

template <int M, int N, int K, class T>
constexpr bool shape_exists() {
  if (Element<T>::per_register == 1) return M == 16 && N == 16 && K == 8;
  return Element<T>::per_register != 0 && K == 16 &&
         ((M == 16 && N == 16) || (M == 32 && N == 8) || (M == 8 && N == 32));
}

struct Place {
  int row, column;
};

// A tall operand: tiles of 16 rows by K. `i` counts the lane's elements.
template <int K, class T>
__forceinline__ Place tall_place(int i) {
  constexpr int e = Element<T>::per_register, each = K / 2;
  int g = simt_lane >> 2, t = simt_lane & 3, j = i % each / e;
  return {i / each * 16 + g + 8 * (j & 1), e * t + i % e + 4 * e * (j >> 1)};
}
// A flat operand: tiles of K by 8 columns.
template <int K, class T>
__forceinline__ Place flat_place(int i) {
  constexpr int e = Element<T>::per_register, each = K / 4;
  int g = simt_lane >> 2, t = simt_lane & 3, j = i % each / e;
  return {e * t + i % e + 4 * e * j, i / each * 8 + g};
}

template <class T>
SIMT_UNHOOKED void fetch(T* to, const T* from, int count, int line) {
  simt_access(from, sizeof(T) * (unsigned)count, 0, line);
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
template <class T>
SIMT_UNHOOKED void put(T* to, T from, int line) {
  simt_access(to, sizeof(T), 1, line);
  *to = from;
}

template <class T>
void require(const T* base, unsigned stride, int line) {
  if ((unsigned long long)base % 32 != 0)
    simt_misuse("wmma takes a pointer that is a multiple of 32 bytes", line);
  if (stride * sizeof(T) % 16 != 0)
    simt_misuse("wmma takes a leading dimension that is a multiple of 16 bytes", line);
}

}  // namespace details

template <class Use, int M, int N, int K, class T, class Layout = void>
class fragment {
  static_assert(details::shape_exists<M, N, K, T>(),
                "the cpu device has no wmma fragment of this shape and type");

 public:
  // An 8x32 product is computed as the transposed 32x8 one.
  static constexpr bool is_a = __is_same(Use, matrix_a), swapped = M == 8, tall = is_a != swapped;
  static constexpr int elements = (is_a ? M : N) * K / 32;
  // nvcc holds most 16-bit operands twice over.
  static constexpr int num_elements = __is_same(T, __half) ? 16 : elements;
  static constexpr int num_storage_elements = num_elements;
  typedef T element_type;
  typedef typename details::Element<T>::type storage_element_type;
  storage_element_type x[num_elements];

  static details::Place place(int i) {
    details::Place p;
    if constexpr (tall) p = details::tall_place<K, T>(i % elements);
    else p = details::flat_place<K, T>(i % elements);
    return swapped ? details::Place{p.column, p.row} : p;
  }
};

template <int M, int N, int K, class T>
class fragment<accumulator, M, N, K, T, void> {
 public:
  static constexpr int num_elements = M * N / 32, num_storage_elements = num_elements;
  typedef T element_type;
  typedef T storage_element_type;
  T x[num_elements];

  // Tiles of 16 by 8; in a product that is computed transposed, so are they.
  static details::Place place(int i) {
    constexpr int across = M == 16 ? N / 8 : 1;
    int tile = i / 4, g = simt_lane >> 2, t = simt_lane & 3;
    int row = tile / across * 16 + g + 8 * ((i >> 1) & 1), column = tile % across * 8 + 2 * t + (i & 1);
    return M == 8 ? details::Place{column, row} : details::Place{row, column};
  }
};

template <class Use, int M, int N, int K, class T, class Layout, class V>
void fill_fragment(fragment<Use, M, N, K, T, Layout>& f, const V& value) {
  typedef typename fragment<Use, M, N, K, T, Layout>::storage_element_type S;
  for (S& x : f.x) x = (S)value;
}

namespace details {

template <class F, class T>
SIMT_UNHOOKED void load(F& f, const T* base, unsigned stride, bool rows, int line) {
  unsigned present;
  simt_exchange(simt::LOAD_MATRIX, ~0u, 0, line, &present);
  require(base, stride, line);
  constexpr int count = F::num_elements;
  for (int i = 0; i < count;) {
    Place p = F::place(i);
    size_t at = rows ? (size_t)p.row * stride + p.column : (size_t)p.column * stride + p.row;
    int run = 1;  // neighbours in memory that come in one register are one access
    while (i + run < count && (run + 1) * sizeof(T) <= 4) {
      Place q = F::place(i + run);
      size_t next = rows ? (size_t)q.row * stride + q.column : (size_t)q.column * stride + q.row;
      if (next != at + run) break;
      ++run;
    }
    fetch(f.x + i, base + at, run, line);
    i += run;
  }
}

}  // namespace details

template <class Use, int M, int N, int K, class T, class Layout, class V>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const V* base, unsigned stride,
                      SIMT_LINE) {
  details::load(f, base, stride, __is_same(Layout, row_major), simt_line);
}
template <int M, int N, int K, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const T* base, unsigned stride,
                      layout_t layout, SIMT_LINE) {
  details::load(f, base, stride, layout == mem_row_major, simt_line);
}
template <int M, int N, int K, class T>
SIMT_UNHOOKED void store_matrix_sync(T* base, const fragment<accumulator, M, N, K, T>& f, unsigned stride,
                       layout_t layout, SIMT_LINE) {
  unsigned present;
  simt_exchange(simt::STORE_MATRIX, ~0u, 0, simt_line, &present);
  details::require(base, stride, simt_line);
  for (int i = 0; i < f.num_elements; ++i) {
    details::Place p = f.place(i);
    size_t at = layout == mem_row_major ? (size_t)p.row * stride + p.column
                                        : (size_t)p.column * stride + p.row;
    details::put(base + at, f.x[i], simt_line);
  }
}

// The registers of mma.sync are the elements in order, packed.
template <int M, int N, int K, class D, class T, class LA, class LB, class C>
SIMT_UNHOOKED void mma_sync(fragment<accumulator, M, N, K, D>& d, const fragment<matrix_a, M, N, K, T, LA>& a,
              const fragment<matrix_b, M, N, K, T, LB>& b,
              const fragment<accumulator, M, N, K, C>& c, SIMT_LINE) {
  constexpr bool half_sum = __is_same(C, __half) && __is_same(D, __half);
  constexpr int e = details::Element<T>::per_register;
  constexpr int tall = M == 16 ? 1 : 2, flat = M == 16 ? N / 8 : 1;
  const auto* upper = M == 8 ? (const void*)b.x : (const void*)a.x;
  const auto* lower = M == 8 ? (const void*)a.x : (const void*)b.x;
  constexpr int a_registers = K / 2 / e, b_registers = K / 4 / e;
  for (int i = 0; i < tall; ++i)
    for (int j = 0; j < flat; ++j) {
      simt_Mma m = {details::Element<T>::input, K, half_sum, {}, {}, {}};
      __builtin_memcpy(m.a, (const unsigned*)upper + i * a_registers, 4 * a_registers);
      __builtin_memcpy(m.b, (const unsigned*)lower + j * b_registers, 4 * b_registers);
      int tile = 4 * (i * flat + j);
      if constexpr (half_sum) {
        __builtin_memcpy(m.c, c.x + tile, 8);
      } else {
        for (int k = 0; k < 4; ++k) {
          if constexpr (__is_same(C, int)) m.c[k] = (unsigned)c.x[tile + k];
          else m.c[k] = __float_as_uint((float)c.x[tile + k]);
        }
      }
      simt_mma(&m, simt_line);
      if constexpr (half_sum) {
        __builtin_memcpy(d.x + tile, m.c, 8);
      } else {
        for (int k = 0; k < 4; ++k) {
          if constexpr (__is_same(D, int)) d.x[tile + k] = (int)m.c[k];
          else d.x[tile + k] = (D)__uint_as_float(m.c[k]);
        }
      }
    }
}

inline float __float_to_tf32(float x) { return __uint_as_float(simt::ptx::tf32_rna(x)); }

}  // namespace wmma
}  // namespace nvcuda

inline float __float_to_tf32(float x) { return nvcuda::wmma::__float_to_tf32(x); }
