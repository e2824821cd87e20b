"""Compiling and launching: all of a delivered file that touches CUDA."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from search_engine.deliver.template.launcher import OfThread, pool_of
from search_engine.deliver.template.verified import Case, KernelFile, Launch, Verified
from search_engine.source import digest

_log = logging.getLogger(__name__)


class Gpu:
    """All that touches CUDA; one object, so that a test can put another in its place."""

    device_type = "cuda"

    def name(self, index: int) -> str:
        """The GPU's model."""
        return torch.cuda.get_device_name(index)

    def capturing(self) -> bool:
        """Whether the current stream is being captured into a CUDA graph."""
        return torch.cuda.is_current_stream_capturing()

    def seconds(self, function: Callable[[], object]) -> float:
        """The median time of a few runs."""
        times = []
        for _ in range(9):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e-3)
        return sorted(times)[len(times) // 2]

    def load(
        self, index: int, folder: Path, file: KernelFile, case: Case
    ) -> Callable[[list[torch.Tensor]], None]:
        """Compile a kernel file for a GPU; what comes back enqueues a case's launches there.

        It takes inputs, weights and outputs in the case's order, then the scratch memory.
        """
        from cuda import core

        device = core.Device(index)
        with torch.cuda.device(index):
            device.set_current()
            code = _object_code(device.arch, folder, file)
            bound = []
            for launch in case.launches:
                kernel = code.get_kernel(launch.function)
                same = [other for other in case.launches if other.function == launch.function]
                _raise_limits(kernel, same, index)
                bound.append((kernel, launch, _arguments(kernel, launch.arguments)))
        return OfThread(index, device, case, bound)


gpu = Gpu()


def _object_code(arch: str, folder: Path, file: KernelFile) -> Any:
    from cuda.core import ObjectCode, Program, ProgramOptions

    arch = f"sm_{arch}" + ("a" if int(arch) >= 90 else "")
    if file.cubin and arch == file.arch:
        text = "".join((folder / file.cubin).read_text("ascii").split("\n", 1)[-1].split())
        if digest(text) == file.cubin_digest:
            return ObjectCode.from_cubin(base64.b64decode(text))
    source = (folder / file.name).read_text("utf-8")
    options = ProgramOptions(arch=arch, std="c++17", include_path=_include_folders())
    return Program(source, "c++", options).compile("cubin")


def _include_folders() -> list[str]:
    """Where the wheels that torch depends on keep CUDA's headers."""
    from cuda.pathfinder import find_nvidia_header_directory

    runtime = find_nvidia_header_directory("cudart")
    if runtime is None:
        return []
    folders = [Path(runtime), Path(runtime, "cccl")]
    with contextlib.suppress(RuntimeError):  # an older pathfinder does not know the name
        folders.append(Path(find_nvidia_header_directory("cccl") or runtime))
    return [str(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]


def _raise_limits(kernel: Any, launches: Sequence[Launch], index: int) -> None:
    """Ask for dynamic shared memory, of which 48 KiB are free, and for clusters above 8 blocks.

    Limits are the function's, not the launch's: they suffice for all of its ``launches``.
    """
    from cuda.bindings import driver

    names = driver.CUfunction_attribute
    wanted = []
    shared = max(launch.shared for launch in launches)
    if shared:
        wanted.append((names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared))
    if any(math.prod(launch.cluster or ()) > 8 for launch in launches):
        wanted.append((names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1))
    for name, value in wanted:
        handle = driver.CUkernel(int(kernel.handle))
        (status,) = driver.cuKernelSetAttribute(name, value, handle, driver.CUdevice(index))
        if status != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(
                f"{launches[0].function} was refused {name.name} of {value}: {status}"
            )


_C_TYPES: dict[str, Any] = {
    "bool": ctypes.c_bool,
    "int": ctypes.c_int32,
    "unsigned int": ctypes.c_uint32,
    "long": ctypes.c_int64,
    "unsigned long": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


# For a parameter type that only the compiler knows (an alias, a template's).
_BY_SIZE: dict[tuple[type, int], Any] = {
    (bool, 1): ctypes.c_bool,
    (int, 4): ctypes.c_int32,
    (int, 8): ctypes.c_int64,
    (float, 4): ctypes.c_float,
    (float, 8): ctypes.c_double,
}


def _arguments(kernel: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """Tensor names as they are, scalars as C values of the width that the kernel takes."""
    sizes = [info.size for info in kernel.arguments_info]
    if len(sizes) != len(arguments):
        raise RuntimeError(f"the kernel takes {len(sizes)} arguments, not {len(arguments)}")
    values = []
    for argument, size in zip(arguments, sizes, strict=True):
        if isinstance(argument, str):
            values.append(argument)
            continue
        name, value = argument
        kind = _C_TYPES.get(name) or _BY_SIZE.get((type(value), size))
        if kind is None or ctypes.sizeof(kind) != size:
            raise RuntimeError(f"{value!r} cannot be passed as {name} of {size} bytes")
        values.append(kind(value))
    return values


class Kernel:
    """A delivered kernel in this process: what was verified, what is compiled and was tried."""

    def __init__(self, verified: Verified, folder: Path) -> None:
        self.verified = verified
        self.folder = folder
        self.pools = tuple(pool_of(case) for case in verified.cases)
        # By GPU and case: the compiled launches, or the reason why there are none.
        self.launchers: dict[tuple[int | None, int], Callable[[list[torch.Tensor]], None] | str]
        self.launchers = {}
        self.trials: dict[tuple[int | None, int], bool] = {}
        self.said: set[str] = set()  # reasons that the user was told

    def file(self, index: int) -> KernelFile:
        """The kernel file of a case."""
        return self.verified.kernels[self.verified.cases[index].kernel]


kernels: dict[str, Kernel] = {}  # by namespace


def launcher_of(kernel: Kernel, device: int | None, index: int) -> Any:
    """The compiled launches of a case on a device, or the reason why there are none."""
    key = (device, index)
    if key not in kernel.launchers:
        kernel.launchers[key] = _load(kernel, device or 0, index)
    return kernel.launchers[key]


def _load(kernel: Kernel, device: int, index: int) -> Any:
    file = kernel.file(index)
    try:
        text = (kernel.folder / file.name).read_text("utf-8")
    except OSError:
        return "kernel file"
    if digest("".join(text.split())) != file.digest:
        return "kernel file"
    if kernel.verified.measured and gpu.name(device) != kernel.verified.gpu:
        return "gpu"
    try:
        return gpu.load(device, kernel.folder, file, kernel.verified.cases[index])
    except Exception as error:  # noqa: BLE001  # whatever it is, the original still runs
        _log.warning("%s: %s", file.name, error)
        return "cuda"


@torch.compiler.assume_constant_result
def usable(namespace: str, device: int | None, index: int) -> str | None:
    """Whether a case can run on a device without a first trial; compiles it."""
    kernel = kernels[namespace]
    launcher = launcher_of(kernel, device, index)
    if isinstance(launcher, str):
        return launcher
    tried = kernel.verified.measured or kernel.trials.get((device, index))
    return None if tried else "slower"


def launched(kernel: Kernel, operands: list[torch.Tensor], index: int) -> list[torch.Tensor] | None:
    """Run a case's launches; None where the GPU refused them (then it is not asked again)."""
    device = operands[0].device
    tensors = [_based(tensor) for tensor in operands]
    outputs = [
        torch.empty_strided(shape, stride, dtype=dtype, device=device)
        for dtype, shape, stride in kernel.verified.cases[index].outputs.values()
    ]
    tensors += outputs
    pool = kernel.pools[index]
    if pool.offsets:
        # Not torch.empty, which takes 1 µs more to understand its arguments.
        tensors.append(torch.empty_strided((pool.nbytes,), (1,), dtype=torch.uint8, device=device))
    key = (device.index, index)
    try:
        kernel.launchers[key](tensors)  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001
        _log.warning("%s: %s", kernel.file(index).name, error)
        kernel.launchers[key] = "cuda"
        return None
    return outputs


def _based(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` with a base aligned to 16 bytes, as the kernel may assume."""
    if not tensor.data_ptr() % 16 and not tensor.is_neg():
        return tensor
    copy = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(tensor)
