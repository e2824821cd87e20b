// launch: transpose<<<(ceil_div(x.size(1), 32), ceil_div(x.size(0), 32)), (32, 8)>>>(x, out, x.size(0), x.size(1))
extern "C" __global__ void transpose(const float* __restrict__ x, float* __restrict__ out, int rows,
                                     int columns) {
  __shared__ float tile[32][33];
  int i = blockIdx.x * 32 + threadIdx.x, j = blockIdx.y * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (i < columns && j + k < rows) tile[threadIdx.y + k][threadIdx.x] = x[(j + k) * columns + i];
  __syncthreads();
  i = blockIdx.y * 32 + threadIdx.x;
  j = blockIdx.x * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (i < rows && j + k < columns) out[(j + k) * rows + i] = tile[threadIdx.x][threadIdx.y + k];
}
