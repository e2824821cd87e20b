// launch: softmax<<<ceil_div(x.size(0), 4), (32, 4)>>>(x, out, x.size(0), x.size(1))
// One warp per row, online: maximum and sum in one pass.
#include <math_constants.h>

extern "C" __global__ void __launch_bounds__(128) softmax(const float* __restrict__ x,
                                                          float* __restrict__ out, int rows,
                                                          int n) {
  int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  x += (long long)row * n;
  out += (long long)row * n;
  float m = -CUDART_INF_F, s = 0.0f;
  for (int i = threadIdx.x; i < n; i += 32) {
    float v = __ldg(&x[i]), larger = fmaxf(m, v);
    s = s * __expf(m - larger) + __expf(v - larger);
    m = larger;
  }
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    float m2 = __shfl_xor_sync(0xffffffffu, m, o), s2 = __shfl_xor_sync(0xffffffffu, s, o);
    float larger = fmaxf(m, m2);
    float a = m == -CUDART_INF_F ? 0.0f : s * __expf(m - larger);
    float b = m2 == -CUDART_INF_F ? 0.0f : s2 * __expf(m2 - larger);
    s = a + b;
    m = larger;
  }
  for (int i = threadIdx.x; i < n; i += 32) __stcs(&out[i], __fdividef(__expf(x[i] - m), s));
}
