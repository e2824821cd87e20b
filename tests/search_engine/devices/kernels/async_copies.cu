// launch: f<<<1, 32, 4096>>>(x, out, x.numel())
// A tile goes to shared memory by cp.async in every size, in three groups, and comes back.
#include <cuda_pipeline.h>
#define CP(TO, FROM, N) asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], %2;\n" ::"r"(TO), "l"(FROM), "n"(N))
__device__ __forceinline__ void copy4(void* to, const void* from, bool there) {
  unsigned address = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("{\n"
               "  .reg .pred p;\n"
               "  setp.ne.b32 p, %2, 0;\n"
               "  @p cp.async.ca.shared.global [%0], [%1], 4;\n"
               "}\n" :: "r"(address), "l"(from), "r"((int)there) : "memory");
}
extern "C" __global__ void f(const float* x, float* out, int n) {
  extern __shared__ __align__(16) float dynamic[];
  __shared__ __align__(16) float fixed[2][128];
  int i = threadIdx.x;
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(dynamic + 4 * i));
  CP(to, x + 4 * i, 16);
  asm volatile("cp.async.commit_group;\n" ::: "memory");
  // Past the end: nothing is read, zeros arrive.
  unsigned there = i < 16 ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::
    "r"((unsigned)__cvta_generic_to_shared(&fixed[0][2 * i])), "l"(x + (i < 16 ? 128 + 2 * i : 1 << 20)), "r"(there));
  asm volatile("cp.async.commit_group;");
  fixed[1][i] = -1.0f;
  copy4(&fixed[1][i], x + 160 + i, i % 2 == 0);
  __pipeline_memcpy_async(&fixed[1][32 + i], x + 192 + i, 4);
  __pipeline_commit();
  asm volatile("cp.async.wait_group %0;\n" ::"n"(2) : "memory");
  __syncthreads();
  out[i] = dynamic[127 - i];
  __pipeline_wait_prior(1);
  __syncthreads();
  out[32 + i] = fixed[0][63 - i];
  out[64 + i] = fixed[0][31 - i];
  asm volatile("cp.async.wait_all;");
  __syncthreads();
  out[96 + i] = fixed[1][31 - i];
  out[128 + i] = fixed[1][63 - i];
}
