// launch: f<<<1, 32>>>(x, out.plain, out.trans, out.back, out.wide)
// Rows of 8 x 8 matrices: plain, transposed, stored back; loads and stores of every width.
extern "C" __global__ void f(const short* x_, int* plain, int* trans, short* back, int* wide) {
  const unsigned short* x = (const unsigned short*)x_;
  __shared__ __align__(16) unsigned short tile[4][8][8], other[4][8][8];
  int i = threadIdx.x;
  for (int k = i; k < 256; k += 32) (&tile[0][0][0])[k] = x[k];
  __syncthreads();
  unsigned row = (unsigned)__cvta_generic_to_shared(&tile[i / 8][i % 8][0]);
  unsigned r0, r1, r2, r3;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(row));
  plain[i] = r0; plain[32 + i] = r1; plain[64 + i] = r2; plain[96 + i] = r3;
  unsigned to = (unsigned)__cvta_generic_to_shared(&other[i / 8][i % 8][0]);
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" :: "r"(to), "r"(r0), "r"(r1), "r"(r2), "r"(r3));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1) : "r"(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1 + 256];" : "=r"(r2) : "r"(i < 8 ? row : 0));
  trans[i] = r0; trans[32 + i] = r1; trans[64 + i] = r2;
  asm volatile("bar.sync 0;");
  for (int k = i; k < 256; k += 32) back[k] = (&other[0][0][0])[k];

  unsigned a, b, c, d, lane, packed, chosen;
  unsigned long long both;
  float e;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "l"(x + 8 * i));
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2+8];" : "=r"(c), "=r"(d) : "r"(row));
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  asm("{ .reg .b32 t; lop3.b32 t, %1, %2, %3, 0x96; mov.b32 %0, t; }" : "=r"(packed) : "r"(a), "r"(b), "r"(c));
  asm("mov.b64 %0, {%1, %2};" : "=l"(both) : "r"(a), "r"(b));
  asm("{ .reg .pred q; setp.gt.s32 q, %1, 15; selp.u32 %0, 7, %2, q; @!q add.u32 %0, %0, 1; }" : "=r"(chosen) : "r"(lane), "r"(lane));
  asm("{ .reg .f32 t; mov.f32 t, 0f40000000; fma.rn.f32 %0, %1, t, 0f3F800000; }" : "=f"(e) : "f"((float)i));
  unsigned short narrow;
  asm("ld.global.u16 %0, [%1];" : "=h"(narrow) : "l"(x + i));
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(1.0f), "f"((float)i));
  unsigned values[8] = {packed, (unsigned)(both >> 32), d, chosen, (unsigned)e, narrow, pair, lane};
  for (int k = 0; k < 8; k += 2)
    asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" :: "l"(wide + 8 * i + k), "r"(values[k]), "r"(values[k + 1]) : "memory");
}
