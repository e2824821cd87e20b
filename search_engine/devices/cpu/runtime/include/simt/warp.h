// Barriers, shuffles, votes, matches and warp reductions. Each lane hands its value to the
// runtime, waits for the lanes of the mask, and reads theirs.
#pragma once

namespace simt {

template <class T>
inline unsigned long long to_bits(T value) {
  static_assert(sizeof(T) <= 8, "a shuffle takes values of at most 8 bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
inline T from_bits(unsigned long long bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
SIMT_UNHOOKED T shuffle(unsigned mask, T value, int source, int line) {
  unsigned present;
  const simt_Published* lanes = simt_exchange(SHUFFLE, mask, to_bits(value), line, &present);
  if (source == simt_lane) return value;
  if (!((present >> source) & 1)) return from_bits<T>(simt_absent(source, mask, line));
  return from_bits<T>(lanes->value[source]);
}

SIMT_UNHOOKED inline unsigned ballot(int kind, unsigned mask, int predicate, int line) {
  unsigned present, votes = 0;
  const simt_Published* lanes = simt_exchange(kind, mask, predicate != 0, line, &present);
  for (int lane = 0; lane < 32; ++lane)
    if ((present >> lane) & 1) votes |= (unsigned)lanes->value[lane] << lane;
  return votes;
}

template <class T, class F>
SIMT_UNHOOKED T reduce(unsigned mask, T value, F combine, int line) {
  unsigned present;
  const simt_Published* lanes = simt_exchange(REDUCE, mask, to_bits(value), line, &present);
  bool first = true;
  T result = value;
  for (int lane = 0; lane < 32; ++lane) {
    if (!((present >> lane) & 1)) continue;
    T other = from_bits<T>(lanes->value[lane]);
    result = first ? other : combine(result, other);
    first = false;
  }
  return result;
}

SIMT_UNHOOKED inline unsigned match(unsigned mask, unsigned long long bits, int line,
                                    unsigned* present) {
  unsigned equal = 0;
  const simt_Published* lanes = simt_exchange(MATCH, mask, bits, line, present);
  for (int lane = 0; lane < 32; ++lane)
    if (((*present >> lane) & 1) && lanes->value[lane] == bits) equal |= 1u << lane;
  return equal;
}

}  // namespace simt

inline void __syncthreads(SIMT_LINE) { simt_barrier(simt_line); }
inline int __syncthreads_count(int predicate, SIMT_LINE) {
  return simt_barrier_reduce(simt::COUNT, predicate, simt_line);
}
inline int __syncthreads_and(int predicate, SIMT_LINE) {
  return simt_barrier_reduce(simt::AND, predicate, simt_line);
}
inline int __syncthreads_or(int predicate, SIMT_LINE) {
  return simt_barrier_reduce(simt::OR, predicate, simt_line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_LINE) {
  unsigned present;
  simt_exchange(simt::SYNC, mask, 0, simt_line, &present);
}
inline void __threadfence() { simt_fence(); }
inline void __threadfence_system() { simt_fence(); }
inline void __threadfence_block() {}
inline unsigned __activemask(SIMT_LINE) { return simt_converged(simt_line); }

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_LINE) {
  int first = simt_lane & ~(width - 1);
  return simt::shuffle(mask, value, first + (source & (width - 1)), simt_line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_LINE) {
  int first = simt_lane & ~(width - 1), source = simt_lane - (int)delta;
  return simt::shuffle(mask, value, source < first ? simt_lane : source, simt_line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_LINE) {
  int last = simt_lane | (width - 1), source = simt_lane + (int)delta;
  return simt::shuffle(mask, value, source > last ? simt_lane : source, simt_line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, SIMT_LINE) {
  int last = simt_lane | (width - 1), source = simt_lane ^ lanes;
  return simt::shuffle(mask, value, source > last ? simt_lane : source, simt_line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_LINE) {
  return simt::ballot(simt::VOTE, mask, predicate, simt_line);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_LINE) {
  return simt::ballot(simt::VOTE, mask, predicate, simt_line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_LINE) {
  return simt::ballot(simt::VOTE, mask, !predicate, simt_line) == 0;
}
inline int __uni_sync(unsigned mask, int predicate, SIMT_LINE) {
  unsigned votes = simt::ballot(simt::VOTE, mask, predicate, simt_line);
  return votes == 0 || (votes & mask) == mask;
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, SIMT_LINE) {
  unsigned present;
  return simt::match(mask, simt::to_bits(value), simt_line, &present);
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all, SIMT_LINE) {
  unsigned present;
  unsigned equal = simt::match(mask, simt::to_bits(value), simt_line, &present);
  *all = equal == present;
  return *all ? present : 0;
}

#define SIMT_REDUCE(name, T, expression)                                                  \
  inline T name(unsigned mask, T value, SIMT_LINE) {                                       \
    return simt::reduce(mask, value, [](T a, T b) -> T { return expression; }, simt_line); \
  }
SIMT_REDUCE(__reduce_add_sync, unsigned, a + b)
SIMT_REDUCE(__reduce_add_sync, int, (int)((unsigned)a + (unsigned)b))
SIMT_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
SIMT_REDUCE(__reduce_min_sync, int, a < b ? a : b)
SIMT_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
SIMT_REDUCE(__reduce_max_sync, int, a > b ? a : b)
SIMT_REDUCE(__reduce_and_sync, unsigned, a & b)
SIMT_REDUCE(__reduce_or_sync, unsigned, a | b)
SIMT_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef SIMT_REDUCE
