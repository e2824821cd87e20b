// launch: moments_norm<<<x.size(0), 64>>>(x, out, x.size(1))
// Struct by value, double arithmetic, a constant table, a reduction by warps' match.
struct Moments {
  double sum, squares;
};
__constant__ double SCALE[2] = {1.0, 0.5};
__device__ Moments combine(Moments a, Moments b) { return {a.sum + b.sum, a.squares + b.squares}; }
extern "C" __global__ void moments_norm(const double* x, double* out, int n) {
  __shared__ Moments all[64];
  Moments mine = {0.0, 0.0};
  for (int i = threadIdx.x; i < n; i += 64) {
    double v = x[blockIdx.x * n + i];
    mine = combine(mine, {v, v * v});
  }
  all[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x < 32) {
    mine = combine(all[threadIdx.x], all[threadIdx.x + 32]);
    for (int o = 16; o; o >>= 1) {
      mine.sum += __shfl_down_sync(~0u, mine.sum, o);
      mine.squares += __shfl_down_sync(~0u, mine.squares, o);
    }
    if (threadIdx.x == 0) out[blockIdx.x] = SCALE[1] * sqrt(mine.squares) + SCALE[0] * mine.sum;
  }
}
