// launch: f<<<2, 64>>>(x, out.tiles, out.votes, out.copied)
// Cooperative groups: tiles of every size, coalesced lanes, partitions, copies.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;

template <int N>
__device__ void tile(const cg::thread_block& block, const int* x, int* out) {
  auto group = cg::tiled_partition<N>(block);
  int v = *x, rank = group.thread_rank();
  out[0] = cg::reduce(group, v, cg::plus<int>());
  out[1] = cg::reduce(group, v, cg::greater<int>());
  out[2] = cg::inclusive_scan(group, v);
  out[3] = cg::exclusive_scan(group, v, cg::plus<int>());
  out[4] = group.shfl(v, N - 1) + group.shfl_xor(v, N / 2);
  out[5] = group.shfl_down(v, 1) - group.shfl_up(v, 1);
  out[6] = (int)group.meta_group_rank() * 1000 + rank;
  out[7] = group.any(v > 90) * 2 + group.all(v < 90);
  group.sync();
}

extern "C" __global__ void f(const int* x, int* tiles, int* votes, int* copied) {
  cg::thread_block block = cg::this_thread_block();
  int i = blockIdx.x * 64 + block.thread_rank(), v = x[i];
  tile<32>(block, x + i, tiles + 32 * i);
  tile<16>(block, x + i, tiles + 32 * i + 8);
  tile<4>(block, x + i, tiles + 32 * i + 16);
  tile<2>(block, x + i, tiles + 32 * i + 24);

  auto warp = cg::tiled_partition<32>(block);
  votes[4 * i] = (int)warp.ballot(v % 3 == 0);
  votes[4 * i + 1] = (int)warp.match_any(v % 5);
  votes[4 * i + 2] = 0;
  if (v % 2) {
    cg::coalesced_group odd = cg::coalesced_threads();
    votes[4 * i + 2] = (int)odd.size() * 100 + cg::reduce(odd, (int)odd.thread_rank(), cg::greater<int>());
  }
  cg::coalesced_group same = cg::labeled_partition(warp, v % 3);
  votes[4 * i + 3] = cg::reduce(same, v, cg::plus<int>());

  __shared__ __align__(16) int buffer[2][64];
  cg::memcpy_async(block, buffer[0], x + blockIdx.x * 64, sizeof(int) * 64);
  cg::memcpy_async(block, buffer[1], x + (1 - blockIdx.x) * 64, sizeof(int) * 64);
  cg::wait_prior<1>(block);
  copied[2 * i] = buffer[0][63 - block.thread_rank()];
  cg::wait(block);
  copied[2 * i + 1] = buffer[1][63 - block.thread_rank()];
}
