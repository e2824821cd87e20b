// launch: relu<<<min(ceil_div(x.numel(), 512), 4 * sm_count), 128>>>(x, out, x.numel() / 4)
// Grid-stride, four floats at a time.
extern "C" __global__ void relu(const float4* __restrict__ x, float4* __restrict__ out, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    float4 v = x[i];
    out[i] = make_float4(fmaxf(v.x, 0.f), fmaxf(v.y, 0.f), fmaxf(v.z, 0.f), fmaxf(v.w, 0.f));
  }
}
