// Cooperative groups: blocks, tiles of a warp, coalesced threads, the grid.
#pragma once

namespace cooperative_groups {
namespace details {}

class thread_block {
 public:
  static void sync(SIMT_LINE) { simt_barrier(simt_line); }
  static void barrier_sync(SIMT_LINE) { simt_barrier(simt_line); }
  static unsigned thread_rank() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  static unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
  static unsigned size() { return num_threads(); }
  static dim3 group_index() { return dim3(blockIdx); }
  static dim3 thread_index() { return dim3(threadIdx); }
  static dim3 group_dim() { return blockDim; }
  static dim3 dim_threads() { return blockDim; }
};

class grid_group {
 public:
  static bool is_valid() { return true; }
  static void sync(SIMT_LINE) { simt_grid_barrier(simt_line); }
  // Arriving joins the block's threads, waiting is the whole barrier: an order that a GPU may take.
  using arrival_token = unsigned;
  static arrival_token barrier_arrive(SIMT_LINE) {
    simt_barrier(simt_line);
    return 0;
  }
  static void barrier_wait(arrival_token&&, SIMT_LINE) { simt_grid_barrier(simt_line); }
  static unsigned long long block_rank() {
    return blockIdx.x + gridDim.x * (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z);
  }
  static unsigned long long num_blocks() {
    return (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
  }
  static unsigned long long thread_rank() {
    return block_rank() * thread_block::size() + thread_block::thread_rank();
  }
  static unsigned long long num_threads() { return num_blocks() * thread_block::size(); }
  static unsigned long long size() { return num_threads(); }
  static dim3 dim_blocks() { return gridDim; }
  static dim3 group_dim() { return gridDim; }
  static dim3 block_index() { return dim3(blockIdx); }
};

namespace details {

// Lanes of one warp, named by a mask; ranks count from the lowest lane.
class lanes {
 protected:
  unsigned mask_;
  unsigned rank_;
  explicit lanes(unsigned mask)
      : mask_(mask), rank_((unsigned)__popc(mask & ((1u << simt_lane) - 1))) {}

 public:
  unsigned simt_mask() const { return mask_; }
  unsigned thread_rank() const { return rank_; }
  void sync(SIMT_LINE) const {
    unsigned present;
    simt_exchange(simt::SYNC, mask_, 0, simt_line, &present);
  }
  int any(int predicate, SIMT_LINE) const { return __any_sync(mask_, predicate, simt_line); }
  int all(int predicate, SIMT_LINE) const { return __all_sync(mask_, predicate, simt_line); }
  unsigned ballot(int predicate, SIMT_LINE) const {
    return packed(__ballot_sync(mask_, predicate, simt_line));
  }
  template <class T>
  unsigned match_any(T value, SIMT_LINE) const {
    return packed(__match_any_sync(mask_, value, simt_line));
  }
  template <class T>
  unsigned match_all(T value, int& all, SIMT_LINE) const {
    return packed(__match_all_sync(mask_, value, &all, simt_line));
  }

 protected:
  // The lane of a rank; -1 for one that is not there.
  int lane_of(int rank) const {
    for (int lane = 0; lane < 32; ++lane)
      if (((mask_ >> lane) & 1) && rank-- == 0) return lane;
    return -1;
  }
  unsigned packed(unsigned votes) const {
    unsigned result = 0, rank = 0;
    for (int lane = 0; lane < 32; ++lane)
      if ((mask_ >> lane) & 1) result |= ((votes >> lane) & 1) << rank++;
    return result;
  }
};

}  // namespace details

template <unsigned N, class Parent = void>
class thread_block_tile : public details::lanes {
  static_assert(N <= 32 && (N & (N - 1)) == 0, "the cpu device has tiles of at most a warp");
  static unsigned mask_here() {
    unsigned tile = N == 32 ? ~0u : ((1u << (N & 31)) - 1) << (simt_lane & ~(int)(N - 1));
    // Lanes that a block smaller than the warp does not have belong to no tile.
    unsigned first = thread_block::thread_rank() & ~31u, size = thread_block::size();
    return size - first >= 32 ? tile : tile & ((1u << (size - first)) - 1);
  }

 public:
  thread_block_tile() : lanes(mask_here()) {}
  template <class Other>
  thread_block_tile(const thread_block_tile<N, Other>& other) : lanes(other.simt_mask()) {}
  static constexpr unsigned num_threads() { return N; }
  static constexpr unsigned size() { return N; }
  unsigned meta_group_rank() const { return thread_block::thread_rank() / N; }
  unsigned meta_group_size() const { return (thread_block::size() + N - 1) / N; }
  template <class T>
  T shfl(T value, int source, SIMT_LINE) const {
    return __shfl_sync(mask_, value, source, (int)N, simt_line);
  }
  template <class T>
  T shfl_down(T value, unsigned delta, SIMT_LINE) const {
    return __shfl_down_sync(mask_, value, delta, (int)N, simt_line);
  }
  template <class T>
  T shfl_up(T value, unsigned delta, SIMT_LINE) const {
    return __shfl_up_sync(mask_, value, delta, (int)N, simt_line);
  }
  template <class T>
  T shfl_xor(T value, unsigned lanes, SIMT_LINE) const {
    return __shfl_xor_sync(mask_, value, (int)lanes, (int)N, simt_line);
  }
};

class coalesced_group : public details::lanes {
 public:
  explicit coalesced_group(unsigned mask) : lanes(mask) {}
  unsigned num_threads() const { return (unsigned)__popc(mask_); }
  unsigned size() const { return num_threads(); }
  unsigned meta_group_rank() const { return 0; }
  unsigned meta_group_size() const { return 1; }
  template <class T>
  T shfl(T value, unsigned source, SIMT_LINE) const {
    int lane = lane_of((int)source);
    return simt::shuffle(mask_, value, lane < 0 ? simt_lane : lane, simt_line);
  }
  template <class T>
  T shfl_down(T value, unsigned delta, SIMT_LINE) const {
    int lane = lane_of((int)(rank_ + delta));
    return simt::shuffle(mask_, value, lane < 0 ? simt_lane : lane, simt_line);
  }
  template <class T>
  T shfl_up(T value, unsigned delta, SIMT_LINE) const {
    int lane = delta > rank_ ? -1 : lane_of((int)(rank_ - delta));
    return simt::shuffle(mask_, value, lane < 0 ? simt_lane : lane, simt_line);
  }
};

typedef thread_block thread_group;

inline thread_block this_thread_block() { return thread_block(); }
inline grid_group this_grid() { return grid_group(); }
inline coalesced_group coalesced_threads(SIMT_LINE) {
  return coalesced_group(simt_converged(simt_line));
}
template <unsigned N, class Parent>
thread_block_tile<N, Parent> tiled_partition(const Parent&) {
  return thread_block_tile<N, Parent>();
}
template <class Group>
void sync(const Group& group, SIMT_LINE) {
  group.sync(simt_line);
}
inline coalesced_group labeled_partition(const coalesced_group& group, int label, SIMT_LINE) {
  return coalesced_group(__match_any_sync(group.simt_mask(), label, simt_line));
}
inline coalesced_group binary_partition(const coalesced_group& group, bool side, SIMT_LINE) {
  return coalesced_group(__match_any_sync(group.simt_mask(), (int)side, simt_line));
}
template <unsigned N, class P>
coalesced_group labeled_partition(const thread_block_tile<N, P>& group, int label, SIMT_LINE) {
  return coalesced_group(__match_any_sync(group.simt_mask(), label, simt_line));
}
template <class Group, class F>
void invoke_one(const Group& group, F&& run) {
  if (group.thread_rank() == 0) run();
}

// As cp.async: what is copied may be read after the wait. One call is one group of copies.
template <class Group>
void memcpy_async(const Group& group, void* to, const void* from, size_t bytes, SIMT_LINE) {
  size_t both = (size_t)to | (size_t)from | bytes;
  unsigned size = both % 16 == 0 ? 16 : both % 8 == 0 ? 8 : 4;
  bool asynchronous = both % 4 == 0 && simt_is_shared(to) && !simt_is_shared(from);
  if (!asynchronous) size = 1;
  for (size_t i = group.thread_rank() * size; i < bytes; i += group.size() * size) {
    if (asynchronous) simt_copy_async((char*)to + i, (const char*)from + i, size, size, simt_line);
    else ((char*)to)[i] = ((const char*)from)[i];
  }
  simt_copy_commit();
}
template <unsigned stages, class Group>
void wait_prior(const Group& group, SIMT_LINE) {
  simt_copy_wait((int)stages);
  group.sync(simt_line);
}
template <class Group>
void wait(const Group& group, SIMT_LINE) {
  simt_copy_wait(-1);
  group.sync(simt_line);
}

}  // namespace cooperative_groups
