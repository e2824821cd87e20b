"""The one door to the CUDA driver: modules, functions and launches, through cuda.bindings.

Everything here runs in the context that torch made current in the calling thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from cuda.bindings import driver as cu

from search_engine.contract.kernel import ResolvedLaunch

PORTABLE_CLUSTER = 8  # blocks; more needs an attribute, and not every GPU has room for it


class DriverError(Exception):
    """The driver refused a call; the context is as it was. ``name`` is CUDA_ERROR_..."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        super().__init__(f"{text} ({name})")


class ContextLost(DriverError):
    """A kernel faulted: nothing can be done in this process's context any more."""


# After these the driver answers every call in the context with the same error.
_FATAL = frozenset(
    {
        "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_LAUNCH_TIMEOUT", "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_HARDWARE_STACK_ERROR", "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_MISALIGNED_ADDRESS", "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC", "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_CONTAINED",
        "CUDA_ERROR_TENSOR_MEMORY_LEAK", "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED", "CUDA_ERROR_EXTERNAL_DEVICE", "CUDA_ERROR_UNKNOWN",
    }
)  # fmt: skip


def call(result: tuple[Any, ...]) -> Any:
    """The values of a driver call. Raises DriverError, ContextLost after a fault."""
    status, *values = result
    if status != cu.CUresult.CUDA_SUCCESS:
        kind = ContextLost if status.name in _FATAL else DriverError
        _, text = cu.cuGetErrorString(status)
        raise kind(status.name, text.decode() if text else "unknown error")
    return tuple(values) if len(values) > 1 else values[0] if values else None


def version() -> str:
    """The newest CUDA version that the driver supports, "13.0"."""
    number = call(cu.cuDriverGetVersion())
    return f"{number // 1000}.{number % 1000 // 10}"


def attribute(device: int, name: str) -> int:
    """A device attribute by the end of its name, "L2_CACHE_SIZE"."""
    key = getattr(cu.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return int(call(cu.cuDeviceGetAttribute(key, call(cu.cuDeviceGet(device)))))


def reset_persisting_l2() -> None:
    """Turn lines that a kernel marked as persisting into normal ones."""
    call(cu.cuCtxResetPersistingL2Cache())


def zero(address: int, size: int, stream: int) -> None:
    """Set memory to zero, in the stream's order."""
    if size:
        call(cu.cuMemsetD8Async(address, 0, size, stream))


class Module:
    """A loaded cubin; unloaded with the object."""

    def __init__(self, cubin: bytes) -> None:
        self._handle = call(cu.cuModuleLoadData(cubin))

    def function(self, name: str) -> Function:
        """A kernel of it. Raises DriverError where there is none of that name."""
        return Function(call(cu.cuModuleGetFunction(self._handle, name.encode())), self)

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None:
            cu.cuModuleUnload(handle)  # after a fault it fails, and nothing is lost by it


class Function:
    """A kernel of a loaded module."""

    def __init__(self, handle: Any, module: Module) -> None:
        self.handle = handle
        self._module = module  # kept loaded as long as its function is in use
        self._shared = 0  # bytes of dynamic shared memory that it is allowed

    def attribute(self, name: str) -> int:
        """A function attribute by the end of its name, "NUM_REGS"."""
        key = getattr(cu.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(call(cu.cuFuncGetAttribute(key, self.handle)))

    def allow(self, launch: ResolvedLaunch) -> None:
        """Raise the function's limits to what ``launch`` asks for; never lower them.

        A limit is the function's, not the launch's: another launch of it may need more.
        """
        if launch.shared > self._shared:
            self._set("MAX_DYNAMIC_SHARED_SIZE_BYTES", launch.shared)
            self._shared = launch.shared
        if _blocks(launch.cluster) > PORTABLE_CLUSTER:
            self._set("NON_PORTABLE_CLUSTER_SIZE_ALLOWED", 1)

    def _set(self, name: str, value: int) -> None:
        key = getattr(cu.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        call(cu.cuFuncSetAttribute(self.handle, key, value))

    def blocks_per_sm(self, launch: ResolvedLaunch) -> int:
        """How many blocks of ``launch`` one SM holds at once."""
        threads = _blocks(launch.block)
        return int(
            call(
                cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(self.handle, threads, launch.shared)
            )
        )

    def active_clusters(self, launch: ResolvedLaunch) -> int:
        """How many clusters of ``launch`` the GPU holds at once."""
        return int(call(cu.cuOccupancyMaxActiveClusters(self.handle, _config(launch, 0))))


class BoundLaunch:
    """A launch with its arguments in place: calling it costs one driver call."""

    def __init__(
        self, function: Function, launch: ResolvedLaunch, arguments: Sequence[bytes]
    ) -> None:
        self._function = function
        self._launch = launch
        self._values = [ctypes.create_string_buffer(value, len(value)) for value in arguments]
        addresses = [ctypes.addressof(value) for value in self._values]
        self._parameters = (ctypes.c_void_p * max(len(addresses), 1))(*addresses)
        self._address = ctypes.addressof(self._parameters)
        self._configs: dict[int, Any] = {}  # by stream

    def __call__(self, stream: int) -> None:
        """Enqueue it. Raises DriverError, ContextLost where an earlier kernel faulted."""
        launch = self._launch
        if launch.cooperative or launch.cluster is not None:
            config = self._configs.get(stream)
            if config is None:
                config = self._configs[stream] = _config(launch, stream)
            call(cu.cuLaunchKernelEx(config, self._function.handle, self._address, 0))
        else:
            call(
                cu.cuLaunchKernel(
                    self._function.handle, *launch.grid, *launch.block, launch.shared, stream,
                    self._address, 0,
                )
            )  # fmt: skip


def _blocks(sizes: tuple[int, int, int] | None) -> int:
    return 1 if sizes is None else sizes[0] * sizes[1] * sizes[2]


def _config(launch: ResolvedLaunch, stream: int) -> Any:
    config = cu.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = launch.grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block
    config.sharedMemBytes = launch.shared
    config.hStream = stream
    attributes = []
    if launch.cooperative:
        item = cu.CUlaunchAttribute()
        item.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        item.value.cooperative = 1
        attributes.append(item)
    if launch.cluster is not None:
        item = cu.CUlaunchAttribute()
        item.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        item.value.clusterDim.x, item.value.clusterDim.y, item.value.clusterDim.z = launch.cluster
        attributes.append(item)
    config.attrs = attributes
    config.numAttrs = len(attributes)
    return config
