// launch: f<<<1, 32>>>(x, out)
// What kernels take of <cuda/std/...>.
#include <cuda/std/algorithm>
#include <cuda/std/array>
#include <cuda/std/cstdint>
#include <cuda/std/limits>
#include <cuda/std/tuple>
#include <cuda/std/type_traits>
#include <cuda/std/utility>
namespace cs = cuda::std;

template <class T>
__device__ cs::enable_if_t<cs::is_floating_point_v<T>, T> start() { return -cs::numeric_limits<T>::infinity(); }
template <class T>
__device__ cs::enable_if_t<cs::is_integral_v<T>, T> start() { return cs::numeric_limits<T>::lowest(); }

template <class T, int N>
__device__ T largest(const cs::array<T, N>& values) {
  T found = start<T>();
  for (T value : values) found = value > found ? value : found;
  return found;
}
__device__ cs::tuple<float, int> split(float v) {
  int whole = (int)v;
  return cs::make_tuple(v - whole, whole);
}
static_assert(cs::numeric_limits<int>::min() == -2147483647 - 1, "");
static_assert(cs::numeric_limits<unsigned long long>::max() == ~0ull, "");
static_assert(cs::numeric_limits<cs::int8_t>::max() == 127, "");
static_assert(cs::is_same_v<cs::remove_cvref_t<const float&>, float>, "");
static_assert(cs::is_unsigned_v<cs::make_unsigned_t<short>>, "");
static_assert(cs::is_pointer_v<const float*> && !cs::is_pointer_v<float>, "");
static_assert(cs::is_same_v<cs::conditional_t<(sizeof(int) > 2), float, int>, float>, "");

extern "C" __global__ void f(const float* x, float* out) {
  int i = threadIdx.x;
  cs::array<float, 4> values{};
  for (int k = 0; k < 4; ++k) values[k] = x[4 * i + k];
  auto [part, whole] = split(values[0]);
  cs::uint32_t bits = __float_as_uint(values[1]);
  float a = values[2], b = values[3];
  cs::swap(a, b);
  auto both = cs::make_tuple(a, b);
  out[8 * i] = largest<float, 4>(values);
  out[8 * i + 1] = part;
  out[8 * i + 2] = (float)whole;
  out[8 * i + 3] = __uint_as_float(bits);
  out[8 * i + 4] = cs::get<0>(both);
  out[8 * i + 5] = cs::get<1>(both);
  out[8 * i + 6] = cs::numeric_limits<float>::epsilon();
  out[8 * i + 7] = (float)start<int>() + cs::max(0.0f, cs::min(1.0f, values[0]));
}
