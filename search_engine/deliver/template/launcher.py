"""Launches through the CUDA driver, with what can be prepared prepared.

A launch from Python is to cost less than the kernels that it replaces: arguments lie in
place, scratch is one piece of memory, and cuda.core.launch, which asks for the occupancy
at every cooperative launch, is not used.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from search_engine.deliver.template.verified import Case, Launch


class Pool(NamedTuple):
    """A case's scratch tensors in one piece of memory: one allocation, one fill with zeros."""

    offsets: tuple[int, ...]  # in bytes, in the case's order
    nbytes: int
    zeroed: int  # bytes at the start to be filled with zeros


def pool_of(case: Case) -> Pool:
    """Where a case's scratch tensors lie; those filled with zeros come first."""
    offsets: dict[str, int] = {}
    zeroed = end = 0
    for wanted in (True, False):
        for name, (dtype, shape, zeros) in case.scratch.items():
            if zeros is wanted:
                offsets[name] = end
                end += -(-math.prod(shape) * dtype.itemsize // 256) * 256  # as allocations are
        if wanted:
            zeroed = end
    return Pool(tuple(offsets[name] for name in case.scratch), end, zeroed)


class OfThread(threading.local):
    """A launcher for each thread, made at its first launch: arguments' memory is not shared."""

    def __init__(self, index: int, device: Any, case: Case, bound: Sequence[Any]) -> None:
        self._index = index
        self._device = device
        self._case = case
        self._bound = bound
        self._launcher: _Launcher | None = None

    def __call__(self, tensors: list[torch.Tensor]) -> None:
        """Enqueue the launches on the device's current stream. Raises RuntimeError."""
        if self._launcher is not None and torch.cuda.current_device() == self._index:
            self._launcher(tensors)
            return
        with torch.cuda.device(self._index):
            if self._launcher is None:
                self._device.set_current()  # a new thread has no context
                self._launcher = _Launcher(self._index, self._case, self._bound)
            self._launcher(tensors)


class _Launcher:
    """Launches with their arguments in place: a call fills in addresses and asks the driver."""

    def __init__(self, index: int, case: Case, bound: Sequence[Any]) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self._index = index
        self._pool = pool_of(case)
        names = (*case.inputs, *case.weights, *case.outputs, *case.scratch)
        self._addresses = (ctypes.c_uint64 * len(names))()
        start = ctypes.addressof(self._addresses)
        place = {name: start + 8 * position for position, name in enumerate(names)}
        self._kept = []  # memory and handles that the driver is given the addresses of
        self._launches = []
        for kernel, launch, arguments in bound:
            function = _checked(driver.cuKernelGetFunction(driver.CUkernel(int(kernel.handle))))
            parameters = (ctypes.c_void_p * max(len(arguments), 1))(
                *(place[a] if type(a) is str else ctypes.addressof(a) for a in arguments)
            )
            self._kept.append((kernel, parameters, arguments))
            config = None
            if launch.cooperative or launch.cluster is not None:
                config = _config(driver, launch)
            sizes = (*launch.grid, *launch.block, launch.shared)
            where = ctypes.addressof(parameters)
            self._launches.append((function, sizes, config, where))

    def __call__(self, tensors: list[torch.Tensor]) -> None:
        driver = self._driver
        addresses = [tensor.data_ptr() for tensor in tensors]
        # By its own name: 0 may also stand for a stream of the thread's own.
        stream = torch._C._cuda_getCurrentRawStream(self._index) or driver.CU_STREAM_LEGACY
        offsets, _, zeroed = self._pool
        if offsets:
            base = addresses.pop()
            addresses += [base + offset for offset in offsets]
            if zeroed:
                _checked(driver.cuMemsetD8Async(base, 0, zeroed, stream))
        self._addresses[:] = addresses  # type: ignore[assignment]
        for function, sizes, config, parameters in self._launches:
            if config is None:
                done = driver.cuLaunchKernel(function, *sizes, stream, parameters, 0)
            else:
                config.hStream = stream
                done = driver.cuLaunchKernelEx(config, function, parameters, 0)
            _checked(done)


def _checked(done: tuple[Any, ...]) -> Any:
    """What a driver call gave. Raises RuntimeError where it failed."""
    if done[0]:
        raise RuntimeError(f"the CUDA driver answered {done[0].name}")
    return done[1] if len(done) > 1 else None


def _config(driver: Any, launch: Launch) -> Any:
    """What a cooperative launch or one in clusters needs beyond its sizes."""
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = launch.grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block
    config.sharedMemBytes = launch.shared
    attributes = []
    if launch.cooperative:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        attribute.value.cooperative = 1
        attributes.append(attribute)
    if launch.cluster is not None:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        cluster = attribute.value.clusterDim
        cluster.x, cluster.y, cluster.z = launch.cluster
        attributes.append(attribute)
    config.attrs = attributes
    config.numAttrs = len(attributes)
    return config
