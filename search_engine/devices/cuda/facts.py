"""The facts of the GPU found: from the table where its name is known, else as it tells."""

from __future__ import annotations

from typing import Any

import torch
from attrs import evolve, frozen

from search_engine.devices.cuda import driver
from search_engine.errors import SetupError
from search_engine.hardware import COPY_SHARE, DeviceFacts, gpu_by_name


@frozen
class _Rates:
    """Floating-point operations per clock and SM (multiply and add are two), dense."""

    fp32: int
    fp64: int
    tf32: int
    half: int


# CUDA C++ programming guide, "Arithmetic instructions", and the architectures' white papers;
# tensor cores with fp32 accumulation. Keys are compute capabilities.
_RATES = {
    (7, 0): _Rates(128, 64, 128, 1024),  # no TF32: the fp32 units
    (7, 5): _Rates(128, 4, 128, 512),
    (8, 0): _Rates(128, 128, 1024, 2048),
    (8, 6): _Rates(256, 4, 256, 512),
    (8, 7): _Rates(256, 4, 512, 1024),
    (8, 9): _Rates(256, 4, 512, 1024),
    (9, 0): _Rates(256, 128, 2048, 4096),
    (10, 0): _Rates(256, 128, 4096, 8192),
    (12, 0): _Rates(256, 4, 256, 512),
}


def facts_of(index: int) -> DeviceFacts:
    """The facts of CUDA device ``index`` (torch's numbering).

    Sizes and counts are always the device's own, so that a partitioned or capped GPU is
    not taken for a whole one.
    """
    properties = torch.cuda.get_device_properties(index)
    device = _driver_index(index)
    found: dict[str, Any] = {
        "sm_count": properties.multi_processor_count,
        "shared_per_block": driver.attribute(device, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        "shared_per_sm": driver.attribute(device, "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR"),
        "l2_bytes": driver.attribute(device, "L2_CACHE_SIZE"),
    }
    try:
        known = gpu_by_name(properties.name)
    except SetupError:
        return _queried(properties.name, device, found)
    if known.sm_count == found["sm_count"]:
        return evolve(known, **found)
    # A slice of the chip (MIG): it has the same share of every rate.
    share = found["sm_count"] / known.sm_count
    rates = {
        name: getattr(known, name) * share
        for name in (
            "dram_bytes_per_second", "fp32_flops", "fp64_flops", "tf32_flops", "half_flops",
        )
    }  # fmt: skip
    return evolve(known, **found, **rates)


def _queried(name: str, device: int, found: dict[str, Any]) -> DeviceFacts:
    capability = (
        driver.attribute(device, "COMPUTE_CAPABILITY_MAJOR"),
        driver.attribute(device, "COMPUTE_CAPABILITY_MINOR"),
    )
    nearest = max((known for known in _RATES if known <= capability), default=(7, 0))
    rates = _RATES[nearest]
    clock = driver.attribute(device, "CLOCK_RATE") * 1e3
    per_clock = clock * found["sm_count"]
    # Memory clock in kHz, two transfers a clock, bus width in bits.
    pins = (
        driver.attribute(device, "MEMORY_CLOCK_RATE")
        * 1e3
        * 2
        * driver.attribute(device, "GLOBAL_MEMORY_BUS_WIDTH")
        / 8
    )
    return DeviceFacts(
        key=name,
        name=name,
        compute_capability=capability,
        clock_hz=clock,
        registers_per_sm=driver.attribute(device, "MAX_REGISTERS_PER_MULTIPROCESSOR"),
        threads_per_sm=driver.attribute(device, "MAX_THREADS_PER_MULTIPROCESSOR"),
        blocks_per_sm=driver.attribute(device, "MAX_BLOCKS_PER_MULTIPROCESSOR"),
        dram_bytes_per_second=pins * COPY_SHARE,
        fp32_flops=rates.fp32 * per_clock,
        fp64_flops=rates.fp64 * per_clock,
        tf32_flops=rates.tf32 * per_clock,
        half_flops=rates.half * per_clock,
        max_cluster=8 if capability >= (9, 0) else 1,
        **found,
    )


def _driver_index(index: int) -> int:
    """The driver numbers devices as torch does: CUDA_VISIBLE_DEVICES holds for both."""
    torch.cuda.init()
    return index
