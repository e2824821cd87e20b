// launch: scan<<<x.size(0), 256>>>(x, out, x.size(1))
// Inclusive sums along rows: __shfl_up_sync within warps, a carry between tiles.
extern "C" __global__ void scan(const float* x, float* out, int n) {
  __shared__ float totals[8];
  __shared__ float carry;
  x += blockIdx.x * n;
  out += blockIdx.x * n;
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (threadIdx.x == 0) carry = 0.0f;
  for (int start = 0; start < n; start += blockDim.x) {
    int i = start + threadIdx.x;
    float v = i < n ? x[i] : 0.0f;
    for (int d = 1; d < 32; d <<= 1) {
      float left = __shfl_up_sync(0xffffffffu, v, d);
      if (lane >= d) v += left;
    }
    if (lane == 31) totals[warp] = v;
    __syncthreads();
    float before = carry;
    for (int w = 0; w < warp; ++w) before += totals[w];
    if (i < n) out[i] = v + before;
    __syncthreads();
    if (threadIdx.x == blockDim.x - 1) carry = v + before;
    __syncthreads();
  }
}
