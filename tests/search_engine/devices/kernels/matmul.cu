// launch: matmul<<<(ceil_div(b.size(1), 16), ceil_div(a.size(0), 16)), (16, 16)>>>(a, b, out, a.size(0), a.size(1), b.size(1))
template <int TILE>
__device__ __forceinline__ float dot(const float (&a)[TILE][TILE], const float (&b)[TILE][TILE],
                                     float sum) {
#pragma unroll
  for (int k = 0; k < TILE; ++k) sum = fmaf(a[threadIdx.y][k], b[k][threadIdx.x], sum);
  return sum;
}

extern "C" __global__ void matmul(const float* a, const float* b, float* out, int m, int k, int n) {
  constexpr int T = 16;
  __shared__ float as[T][T], bs[T][T];
  int row = blockIdx.y * T + threadIdx.y, column = blockIdx.x * T + threadIdx.x;
  float sum = 0.0f;
  for (int start = 0; start < k; start += T) {
    int i = start + threadIdx.x, j = start + threadIdx.y;
    as[threadIdx.y][threadIdx.x] = row < m && i < k ? a[row * k + i] : 0.0f;
    bs[threadIdx.y][threadIdx.x] = j < k && column < n ? b[j * n + column] : 0.0f;
    __syncthreads();
    sum = dot<T>(as, bs, sum);
    __syncthreads();
  }
  if (row < m && column < n) out[row * n + column] = sum;
}
