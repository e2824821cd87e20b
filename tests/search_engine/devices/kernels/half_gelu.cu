// launch: gelu<<<ceil_div(x.numel(), 512), 256>>>(x, out, x.numel())
#include <cuda_fp16.h>
extern "C" __global__ void gelu(const __half* __restrict__ x, __half* __restrict__ out, int n) {
  int i = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 1 < n) {
    float2 v = __half22float2(*reinterpret_cast<const half2*>(x + i));
    v.x = 0.5f * v.x * (1.0f + erff(v.x * 0.70710678f));
    v.y = 0.5f * v.y * (1.0f + erff(v.y * 0.70710678f));
    *reinterpret_cast<half2*>(out + i) = __floats2half2_rn(v.x, v.y);
  } else if (i < n) {
    float v = __half2float(x[i]);
    out[i] = __float2half(0.5f * v * (1.0f + erff(v * 0.70710678f)));
  }
}
