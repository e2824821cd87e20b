// cooperative_groups::reduce over tiles and coalesced groups.
#pragma once
#include "../cooperative_groups.h"

namespace cooperative_groups {

template <class T = void> struct plus { T operator()(T a, T b) const { return a + b; } };
template <class T = void> struct less { T operator()(T a, T b) const { return b < a ? b : a; } };
template <class T = void> struct greater { T operator()(T a, T b) const { return a < b ? b : a; } };
template <class T = void> struct bit_and { T operator()(T a, T b) const { return a & b; } };
template <class T = void> struct bit_or { T operator()(T a, T b) const { return a | b; } };
template <class T = void> struct bit_xor { T operator()(T a, T b) const { return a ^ b; } };
template <> struct plus<void> { template <class T> T operator()(T a, T b) const { return a + b; } };
template <> struct less<void> { template <class T> T operator()(T a, T b) const { return b < a ? b : a; } };
template <> struct greater<void> { template <class T> T operator()(T a, T b) const { return a < b ? b : a; } };

// In the order of a tree of shuffles, as the GPU adds them up.
template <class Group, class T, class F>
T reduce(const Group& group, T value, F combine, SIMT_LINE) {
  unsigned mask = group.simt_mask();
  const int size = __popc(mask);
  for (int step = 16; step > 0; step >>= 1) {
    if (step >= size) continue;
    int rank = (int)group.thread_rank(), partner = rank + step, lane = -1, seen = 0;
    for (int i = 0; i < 32; ++i)
      if (((mask >> i) & 1) && seen++ == partner) lane = i;
    T other = simt::shuffle(mask, value, lane < 0 ? simt_lane : lane, simt_line);
    if (lane >= 0) value = combine(value, other);
  }
  int first = __ffs((int)mask) - 1;
  return simt::shuffle(mask, value, first, simt_line);
}

}  // namespace cooperative_groups
