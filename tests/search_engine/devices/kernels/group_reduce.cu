// launch: row_sum<<<ceil_div(x.size(0), 8), 128>>>(x, out, x.size(0), x.size(1))
// Sixteen threads per row, with cooperative groups.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;
extern "C" __global__ void row_sum(const float* x, float* out, int rows, int n) {
  auto tile = cg::tiled_partition<16>(cg::this_thread_block());
  int row = blockIdx.x * 8 + tile.meta_group_rank();
  float sum = 0.0f;
  if (row < rows)
    for (int i = tile.thread_rank(); i < n; i += tile.size()) sum += x[row * n + i];
  sum = cg::reduce(tile, sum, cg::plus<float>());
  if (row < rows && tile.thread_rank() == 0) out[row] = sum;
}
