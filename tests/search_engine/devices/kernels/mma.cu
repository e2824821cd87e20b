// launch: f<<<1, 32>>>(a, b, c, ah, bh, ab, bb, ai, bi, out.f16, out.f16_8, out.bf16, out.tf32, out.tf32_4, out.half, out.whole)
// Every shape of mma.sync, its fragments filled as the tables of the PTX ISA say: A row-major
// with rows of 32, B as columns of 32 behind each other.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#define MMA(NAME, SUM, D, A0, B0) \
  asm volatile("mma.sync.aligned." NAME " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n" \
    : "+" SUM (D[0]), "+" SUM (D[1]), "+" SUM (D[2]), "+" SUM (D[3]) \
    : "r"(A0[0]), "r"(A0[1]), "r"(A0[2]), "r"(A0[3]), "r"(B0[0]), "r"(B0[1]))
#define MMA2(NAME, D, A0, B0) \
  asm volatile("mma.sync.aligned." NAME " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n" \
    : "+f"(D[0]), "+f"(D[1]), "+f"(D[2]), "+f"(D[3]) : "r"(A0[0]), "r"(A0[1]), "r"(B0[0]))

template <class T> __device__ unsigned word(const T* p) { return *(const unsigned*)p; }
template <class T> __device__ void start(T* d, const float* c, int g, int t) {
  d[0] = (T)c[g * 8 + 2 * t]; d[1] = (T)c[g * 8 + 2 * t + 1];
  d[2] = (T)c[(g + 8) * 8 + 2 * t]; d[3] = (T)c[(g + 8) * 8 + 2 * t + 1];
}
template <class T> __device__ void finish(const T* d, T* out, int g, int t) {
  out[g * 8 + 2 * t] = d[0]; out[g * 8 + 2 * t + 1] = d[1];
  out[(g + 8) * 8 + 2 * t] = d[2]; out[(g + 8) * 8 + 2 * t + 1] = d[3];
}
template <class T> __device__ void halves(const T* a, const T* b, unsigned* ra, unsigned* rb, int g, int t) {
  ra[0] = word(a + g * 32 + 2 * t);      ra[1] = word(a + (g + 8) * 32 + 2 * t);
  ra[2] = word(a + g * 32 + 2 * t + 8);  ra[3] = word(a + (g + 8) * 32 + 2 * t + 8);
  rb[0] = word(b + g * 32 + 2 * t);      rb[1] = word(b + g * 32 + 2 * t + 8);
}
__device__ unsigned tf32(float x) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}
extern "C" __global__ void f(const float* a, const float* b, const float* c, const half* ah, const half* bh,
    const __nv_bfloat16* ab, const __nv_bfloat16* bb, const signed char* ai, const signed char* bi,
    float* f16, float* f16_8, float* bf16, float* tf, float* tf4, half* hh, int* whole) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned ra[4], rb[2];
  float d[4];
  halves(ah, bh, ra, rb, g, t);
  start(d, c, g, t);
  MMA("m16n8k16.row.col.f32.f16.f16.f32", "f", d, ra, rb);
  finish(d, f16, g, t);

  start(d, c, g, t);
  MMA2("m16n8k8.row.col.f32.f16.f16.f32", d, ra, rb);
  finish(d, f16_8, g, t);

  unsigned low = *(const unsigned short*)&ah[0], sum[2];
  half2 first = __floats2half2_rn(c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1]);
  half2 second = __floats2half2_rn(c[(g + 8) * 8 + 2 * t], c[(g + 8) * 8 + 2 * t + 1]);
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
    : "=r"(sum[0]), "=r"(sum[1]) : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]),
      "r"(*(unsigned*)&first), "r"(*(unsigned*)&second));
  *(unsigned*)(hh + g * 8 + 2 * t) = sum[0];
  *(unsigned*)(hh + (g + 8) * 8 + 2 * t) = sum[1];

  halves(ab, bb, ra, rb, g, t);
  start(d, c, g, t);
  MMA("m16n8k16.row.col.f32.bf16.bf16.f32", "f", d, ra, rb);
  finish(d, bf16, g, t);

  unsigned wa[4] = {tf32(a[g * 32 + t]), tf32(a[(g + 8) * 32 + t]), tf32(a[g * 32 + t + 4]), tf32(a[(g + 8) * 32 + t + 4])};
  unsigned wb[2] = {tf32(b[t * 8 + g]), tf32(b[(t + 4) * 8 + g])};
  start(d, c, g, t);
  MMA("m16n8k8.row.col.f32.tf32.tf32.f32", "f", d, wa, wb);
  finish(d, tf, g, t);

  // The low 13 bits are not looked at: full fp32 numbers are cut, not rounded.
  unsigned fa[2] = {__float_as_uint(a[g * 32 + t]), __float_as_uint(a[(g + 8) * 32 + t])};
  unsigned fb[1] = {__float_as_uint(b[t * 8 + g])};
  start(d, c, g, t);
  MMA2("m16n8k4.row.col.f32.tf32.tf32.f32", d, fa, fb);
  finish(d, tf4, g, t);

  unsigned ia[4] = {word(ai + g * 32 + 4 * t), word(ai + (g + 8) * 32 + 4 * t),
                    word(ai + g * 32 + 4 * t + 16), word(ai + (g + 8) * 32 + 4 * t + 16)};
  unsigned ib[2] = {word(bi + g * 32 + 4 * t), word(bi + g * 32 + 4 * t + 16)};
  int n[4];
  start(n, c, g, t);
  MMA("m16n8k32.row.col.s32.s8.s8.s32", "r", n, ia, ib);
  finish(n, whole, g, t);
}
