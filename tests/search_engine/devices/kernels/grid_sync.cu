// scratch: partial float32[4]
// launch: normalise<<<4, 128>>>(x, partial, out, x.numel()) cooperative
// Divides by the sum of all, in one launch: every block waits for the others.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
extern "C" __global__ void normalise(const float* x, float* partial, float* out, int n) {
  __shared__ float sums[128];
  cg::grid_group grid = cg::this_grid();
  float v = 0.0f;
  for (int i = grid.thread_rank(); i < n; i += grid.size()) v += x[i];
  sums[threadIdx.x] = v;
  for (int half = 64; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
  grid.sync();
  float total = partial[0] + partial[1] + partial[2] + partial[3];
  for (int i = grid.thread_rank(); i < n; i += grid.size()) out[i] = x[i] / total;
}
