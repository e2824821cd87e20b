// launch: zero<<<1, 64>>>(out)
// launch: histogram<<<16, 128>>>(x, out, x.numel())
// Shared-memory atomics, then one global atomic per bin and block.
extern "C" __global__ void zero(int* out) { out[threadIdx.x] = 0; }
extern "C" __global__ void histogram(const int* x, int* out, int n) {
  __shared__ int bins[64];
  if (threadIdx.x < 64) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&bins[x[i] & 63], 1);
  __syncthreads();
  if (threadIdx.x < 64 && bins[threadIdx.x]) atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}
