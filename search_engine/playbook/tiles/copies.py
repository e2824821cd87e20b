"""The device functions of movers: asynchronous copies (``cp.async``) and pairs of halves."""

ASYNC = """\
// {size} bytes from global to shared memory, past the registers; zeros where not valid, unread.
__device__ __forceinline__ void copy_async_{size}(void* to, const void* from, bool valid) {{
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = valid ? {size} : 0;
  asm volatile("cp.async.{cache}.shared.global [%0], [%1], {size}, %2;"
               :: "r"(shared), "l"(from), "r"(bytes) : "memory");
}}"""

COMMIT = """\
// Ends a group of asynchronous copies.
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}"""

WAIT = """\
// Waits until at most PENDING groups of asynchronous copies are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}"""

PAIRS = """\
// Two words of halves that neighbour along rows, at k and k + 1, as two words of pairs along k.
__device__ __forceinline__ uint2 pairs(unsigned even, unsigned odd) {
  return make_uint2((even & 0xffffu) | (odd << 16), (even >> 16) | (odd & 0xffff0000u));
}"""
