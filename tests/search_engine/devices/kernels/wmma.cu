// launch: f<<<1, 32>>>(a, b, ah, bh, ab, bb, ai, bi, out.square, out.tall, out.wide, out.tf32, out.half, out.whole)
// One product per shape and type, in all layouts: A as (M, 16) rows or its transpose, B likewise.
#include <mma.h>
using namespace nvcuda;

template <int M, int N, int K, class T, class LA, class LB, class V, class Sum>
__device__ void product(const V* a, const V* b, Sum* out, bool out_rows) {
  wmma::fragment<wmma::matrix_a, M, N, K, T, LA> fa;
  wmma::fragment<wmma::matrix_b, M, N, K, T, LB> fb;
  wmma::fragment<wmma::accumulator, M, N, K, Sum> sum, from;
  wmma::load_matrix_sync(fa, a, 32);
  wmma::load_matrix_sync(fb, b, 32);
  wmma::fill_fragment(sum, 1.0f);
  wmma::mma_sync(sum, fa, fb, sum);
#pragma unroll
  for (int i = 0; i < sum.num_elements; ++i) sum.x[i] = sum.x[i] + sum.x[i];
  auto layout = out_rows ? wmma::mem_row_major : wmma::mem_col_major;
  wmma::store_matrix_sync(out, sum, out_rows ? N : M, layout);
  // Through memory and back into the accumulator of a second product.
  __syncwarp();
  wmma::load_matrix_sync(from, out, out_rows ? N : M, layout);
  wmma::mma_sync(from, fa, fb, from);
  __syncwarp();
  wmma::store_matrix_sync(out, from, out_rows ? N : M, layout);
}

extern "C" __global__ void f(const float* a, const float* b, const half* ah, const half* bh,
    const __nv_bfloat16* ab, const __nv_bfloat16* bb, const signed char* ai, const signed char* bi,
    float* square, float* tall, float* wide, float* tf, half* hh, int* whole) {
  using wmma::row_major; using wmma::col_major;
  __shared__ __align__(32) half tile[32 * 32];
  for (int i = threadIdx.x; i < 32 * 32; i += 32) tile[i] = ah[i];
  __syncthreads();
  product<16, 16, 16, half, row_major, col_major>((const half*)tile, bh, square, true);
  product<16, 16, 16, half, col_major, row_major>((const half*)tile, bh, square + 256, false);
  product<32, 8, 16, half, row_major, row_major>(ah, bh, tall, true);
  product<8, 32, 16, __nv_bfloat16, row_major, col_major>(ab, bb, wide, true);
  product<16, 16, 8, wmma::precision::tf32, row_major, row_major>(a, b, tf, true);
  product<16, 16, 8, wmma::precision::tf32, col_major, col_major>(a, b, tf + 256, false);
  product<16, 16, 16, half, row_major, row_major>(ah, bh, hh, true);
  product<16, 16, 16, signed char, row_major, col_major>(ai, bi, whole, true);
}
