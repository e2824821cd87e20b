"""Which device runs the kernels of a search."""

from __future__ import annotations

import logging
import re
import subprocess

import torch

from search_engine.devices._base import Device
from search_engine.errors import SetupError
from search_engine.hardware import gpu_by_name
from search_engine.settings import SearchSettings

logger = logging.getLogger(__name__)


def open_device(settings: SearchSettings) -> Device:
    """The device that ``settings.device`` names: "cuda", "cuda:1", "cpu" or "auto".

    "auto" and "cuda" take the idlest GPU that torch sees; without one "auto" takes the
    cpu device. Raises SetupError that says what is missing.
    """
    wanted = settings.device
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", wanted)
    if match is None:
        raise SetupError(f"The device {wanted!r} is not known: write auto, cpu, cuda or cuda:N.")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        from search_engine.devices.cpu.device import CpuDevice

        return CpuDevice(
            gpu_by_name(settings.target),
            timeout=settings.kernel_timeout,
            unguarded=settings.unguarded,
            cache_bytes=int(settings.cache_gigabytes * 10**9),
        )
    if not torch.cuda.is_available():
        raise SetupError(
            "torch sees no CUDA GPU: install a CUDA build of torch and a driver, or set the "
            "device to cpu."
        )
    try:
        from search_engine.devices.cuda.device import CudaDevice
    except ImportError as error:
        raise SetupError(
            f"A GPU is there, but {error.name or 'cuda-bindings'} is not: "
            "`pip install 'kernel-lsp[cuda13]'` (or [cuda12]), or set the device to cpu."
        ) from None
    return CudaDevice(idlest_gpu() if match[1] is None else int(match[1]))


def idlest_gpu() -> int:
    """The GPU (torch's index) with the least work and memory in use, 0 where unknown."""
    count = torch.cuda.device_count()
    if count <= 1:
        return 0
    usage = _usage()
    loads = [
        usage.get(str(getattr(torch.cuda.get_device_properties(index), "uuid", "")))
        for index in range(count)
    ]
    known = [(load, index) for index, load in enumerate(loads) if load is not None]
    return min(known)[1] if known else 0


def _usage() -> dict[str, tuple[int, int]]:
    """(percent of time in use, MiB in use) of each GPU by its UUID, as nvidia-smi tells."""
    fields = "uuid,utilization.gpu,memory.used"
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("nvidia-smi does not tell which GPU is idle: %s", error)
        return {}
    return parse_usage(told)


def parse_usage(told: str) -> dict[str, tuple[int, int]]:
    """nvidia-smi's lines "GPU-8a5e..., 3, 512"; lines without numbers are left out."""
    found = {}
    for line in told.splitlines():
        match = re.fullmatch(r"\s*(?:GPU-)?(\S+),\s*(\d+),\s*(\d+)\s*", line)
        if match:
            found[match[1]] = (int(match[2]), int(match[3]))
    return found
