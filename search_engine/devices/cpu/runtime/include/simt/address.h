// State spaces of addresses. Shared memory has addresses of 32 bits, as on a GPU; every other
// address is generic.
#pragma once

inline size_t __cvta_generic_to_shared(const void* p) { return simt_shared_address(p); }
inline void* __cvta_shared_to_generic(size_t address, SIMT_LINE) {
  return simt_shared_pointer(address, simt_line);
}
inline size_t __cvta_generic_to_global(const void* p) { return (size_t)p; }
inline void* __cvta_global_to_generic(size_t address) { return (void*)address; }
inline size_t __cvta_generic_to_constant(const void* p) { return (size_t)p; }
inline void* __cvta_constant_to_generic(size_t address) { return (void*)address; }
inline size_t __cvta_generic_to_local(const void* p) { return (size_t)p; }
inline void* __cvta_local_to_generic(size_t address) { return (void*)address; }
inline unsigned __nvvm_get_smem_pointer(const void* p) { return (unsigned)simt_shared_address(p); }
inline unsigned __isShared(const void* p) { return (unsigned)simt_is_shared(p); }
inline unsigned __isGlobal(const void* p) { return (unsigned)!simt_is_shared(p); }

// The primitives of <cuda_pipeline.h>; nvcc has them without the header under these names.
inline void __pipeline_memcpy_async(void* to, const void* from, size_t size, size_t zeros = 0,
                                    SIMT_LINE) {
  if (zeros > size) simt_misuse("__pipeline_memcpy_async fills in more than it copies", simt_line);
  simt_copy_async(to, from, (unsigned)size, (unsigned)(size - zeros), simt_line);
}
inline void __pipeline_commit() { simt_copy_commit(); }
inline void __pipeline_wait_prior(size_t groups) { simt_copy_wait((int)groups); }
