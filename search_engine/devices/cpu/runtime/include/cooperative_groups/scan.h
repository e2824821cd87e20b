// cooperative_groups::inclusive_scan and exclusive_scan over tiles and coalesced groups.
#pragma once
#include "reduce.h"

namespace cooperative_groups {

template <class Group, class T, class F>
T inclusive_scan(const Group& group, T value, F combine, SIMT_LINE) {
  for (unsigned step = 1; step < group.size(); step <<= 1) {
    T other = group.shfl_up(value, step, simt_line);
    if (group.thread_rank() >= step) value = combine(other, value);
  }
  return value;
}
template <class Group, class T>
T inclusive_scan(const Group& group, T value, SIMT_LINE) {
  return inclusive_scan(group, value, plus<T>(), simt_line);
}
template <class Group, class T, class F>
T exclusive_scan(const Group& group, T value, F combine, SIMT_LINE) {
  T all = inclusive_scan(group, value, combine, simt_line);
  T before = group.shfl_up(all, 1u, simt_line);
  return group.thread_rank() == 0 ? T() : before;
}
template <class Group, class T>
T exclusive_scan(const Group& group, T value, SIMT_LINE) {
  return exclusive_scan(group, value, plus<T>(), simt_line);
}

}  // namespace cooperative_groups
