// launch: conv2d<<<(ceil_div(out.size(3), 8), ceil_div(out.size(2), 8), out.size(0) * out.size(1)), (8, 8), w.size(1) * 9 * 4>>>(x, w, b, out, x.size(1), x.size(2), x.size(3), out.size(1))
extern "C" __global__ void conv2d(const float* __restrict__ x, const float* __restrict__ w,
                                  const float* __restrict__ b, float* __restrict__ out, int c,
                                  int h, int width, int filters) {
  extern __shared__ __align__(16) float filter[];
  int image = blockIdx.z / filters, f = blockIdx.z % filters;
  int lane = threadIdx.y * blockDim.x + threadIdx.x;
  for (int i = lane; i < c * 9; i += blockDim.x * blockDim.y) filter[i] = w[f * c * 9 + i];
  __syncthreads();
  int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= h || column >= width) return;
  float sum = b[f];
  for (int k = 0; k < c; ++k)
    for (int i = -1; i <= 1; ++i)
      for (int j = -1; j <= 1; ++j) {
        int y = row + i, z = column + j;
        if (y < 0 || y >= h || z < 0 || z >= width) continue;
        sum += x[((image * c + k) * h + y) * width + z] * filter[k * 9 + (i + 1) * 3 + j + 1];
      }
  out[((image * filters + f) * h + row) * width + column] = sum;
}
