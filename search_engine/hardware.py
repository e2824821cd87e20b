"""Facts about GPUs: the limits a kernel is checked against and the rates of the roofline."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from search_engine.errors import SetupError


@frozen
class DeviceFacts:
    """One GPU model as kernels and the limit see it. Sizes in bytes, rates per second."""

    key: str
    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    clock_hz: float
    shared_per_block: int  # the most a block gets, opt-in dynamic shared memory included
    shared_per_sm: int
    registers_per_sm: int
    threads_per_sm: int
    blocks_per_sm: int
    l2_bytes: int
    dram_bytes_per_second: float  # read plus written, what a large copy reaches
    fp32_flops: float  # outside the tensor cores
    fp64_flops: float
    tf32_flops: float  # tensor cores, dense
    half_flops: float  # fp16 and bf16 tensor cores, dense
    max_cluster: int = 8

    max_threads_per_block: int = 1024
    static_shared: int = 49152
    # Multiprocessors that a cooperative grid may fill, where kernels are told of fewer.
    cooperative_sms: int | None = None

    @property
    def arch(self) -> str:
        """The real architecture to compile for, ``sm_90a`` with its specific features."""
        major, minor = self.compute_capability
        suffix = "a" if major >= 9 else ""
        return f"sm_{major}{minor}{suffix}"


# Sizes and counts that follow from the compute capability: CUDA C++ programming guide, table
# "Technical specifications per compute capability"; clusters beyond 8 blocks are opt-in.
_AMPERE: dict[str, Any] = {
    "compute_capability": (8, 0), "shared_per_block": 163 * 1024, "shared_per_sm": 164 * 1024,
    "registers_per_sm": 65536, "threads_per_sm": 2048, "blocks_per_sm": 32, "max_cluster": 1,
}  # fmt: skip
_ADA: dict[str, Any] = {
    "compute_capability": (8, 9), "shared_per_block": 99 * 1024, "shared_per_sm": 100 * 1024,
    "registers_per_sm": 65536, "threads_per_sm": 1536, "blocks_per_sm": 24, "max_cluster": 1,
}  # fmt: skip
_HOPPER: dict[str, Any] = {
    "compute_capability": (9, 0), "shared_per_block": 227 * 1024, "shared_per_sm": 228 * 1024,
    "registers_per_sm": 65536, "threads_per_sm": 2048, "blocks_per_sm": 32, "max_cluster": 16,
}  # fmt: skip
_BLACKWELL = _HOPPER | {"compute_capability": (10, 0)}

# Of the pins' rate, what a large copy reaches: 4.28 of 4.8 TB/s, measured on an H200 with a
# device-to-device copy through torch. The other GPUs' DRAM rates are derived with it.
COPY_SHARE = 0.89


def _copy_rate(pins: float) -> float:
    return COPY_SHARE * pins


# NVIDIA A100 datasheet (2021), columns "A100 40GB SXM" and "A100 80GB SXM"; SMs, clock and L2:
# "NVIDIA A100 Tensor Core GPU Architecture" white paper, table "Comparison of data center GPUs".
_A100: dict[str, Any] = _AMPERE | {
    "sm_count": 108, "clock_hz": 1.41e9, "l2_bytes": 40 * 2**20, "fp32_flops": 19.5e12,
    "fp64_flops": 9.7e12, "tf32_flops": 156e12, "half_flops": 312e12,
}  # fmt: skip
A100_40GB = DeviceFacts(
    key="a100-40gb",
    name="NVIDIA A100-SXM4-40GB",
    dram_bytes_per_second=_copy_rate(1.555e12),
    **_A100,
)
A100_80GB = DeviceFacts(
    key="a100-80gb",
    name="NVIDIA A100-SXM4-80GB",
    dram_bytes_per_second=_copy_rate(2.039e12),
    **_A100,
)
# NVIDIA L40S datasheet (rates, memory); SMs and L2: "NVIDIA Ada GPU Architecture" white paper,
# AD102 and its appendix on the L40. The clock is derived: the fp32 rate over 256 a clock and SM.
L40S = DeviceFacts(
    key="l40s",
    name="NVIDIA L40S",
    sm_count=142,
    clock_hz=2.52e9,
    l2_bytes=96 * 2**20,
    dram_bytes_per_second=_copy_rate(0.864e12),
    fp32_flops=91.6e12,
    fp64_flops=1.4e12,  # 4 a clock and SM
    tf32_flops=183e12,
    half_flops=362e12,
    **_ADA,
)
# "NVIDIA Ada GPU Architecture" white paper, appendix A, table "GeForce RTX 4090". Half rates are
# those with fp32 accumulation, which GeForce has at half speed.
RTX4090 = DeviceFacts(
    key="rtx4090",
    name="NVIDIA GeForce RTX 4090",
    sm_count=128,
    clock_hz=2.52e9,
    l2_bytes=72 * 2**20,
    dram_bytes_per_second=_copy_rate(1.008e12),
    fp32_flops=82.6e12,
    fp64_flops=1.29e12,
    tf32_flops=82.6e12,
    half_flops=165.2e12,
    **_ADA,
)
# NVIDIA H100 datasheet, columns "H100 SXM" and "H100 PCIe" (its tensor rates are with sparsity:
# half of them); SMs and L2: "NVIDIA H100 Tensor Core GPU Architecture" white paper. Clocks are
# derived: the fp32 rate over 256 a clock and SM.
H100_SXM = DeviceFacts(
    key="h100",
    name="NVIDIA H100 80GB HBM3",
    sm_count=132,
    clock_hz=1.98e9,
    l2_bytes=50 * 2**20,
    dram_bytes_per_second=_copy_rate(3.35e12),
    fp32_flops=67e12,
    fp64_flops=34e12,
    tf32_flops=495e12,
    half_flops=989e12,
    **_HOPPER,
)
H100_PCIE = DeviceFacts(
    key="h100-pcie",
    name="NVIDIA H100 PCIe",
    sm_count=114,
    clock_hz=1.755e9,
    l2_bytes=50 * 2**20,
    dram_bytes_per_second=_copy_rate(2.0e12),
    fp32_flops=51e12,
    fp64_flops=26e12,
    tf32_flops=378e12,
    half_flops=756e12,
    **_HOPPER,
)
# NVIDIA H200 datasheet (SXM). DRAM: measured, see COPY_SHARE; L2: as the driver tells.
H200 = DeviceFacts(
    key="h200",
    name="NVIDIA H200",
    sm_count=132,
    clock_hz=1.98e9,
    l2_bytes=60 * 2**20,
    dram_bytes_per_second=4.28e12,
    fp32_flops=67e12,
    fp64_flops=34e12,
    tf32_flops=495e12,
    half_flops=989e12,
    **_HOPPER,
)
# NVIDIA Blackwell datasheet (GB200 NVL72, HGX B200), "Individual Blackwell GPU specifications",
# column "HGX B200" (tensor rates are with sparsity: half of them). Its 7.7 TB/s are the driver's
# 7,680 bits at 3,996 MHz (pytorch/ao, pull request 4002); the 8 TB/s of the architecture's
# technical brief are GB200's. L2: Blackwell tuning guide, section "Increased L2 capacity". SMs as
# the driver tells (the same pull request; Chips and Cheese, "Nvidia's B200", 2025). The clock is
# derived: the fp32 rate over 256 a clock and SM.
B200 = DeviceFacts(
    key="b200",
    name="NVIDIA B200",
    sm_count=148,
    clock_hz=1.98e9,
    l2_bytes=126 * 2**20,
    dram_bytes_per_second=_copy_rate(7.7e12),
    fp32_flops=75e12,
    fp64_flops=37e12,
    tf32_flops=1.1e15,
    half_flops=2.25e15,
    **_BLACKWELL,
)

GPUS: dict[str, DeviceFacts] = {
    gpu.key: gpu for gpu in (A100_40GB, A100_80GB, L40S, RTX4090, H100_SXM, H100_PCIE, H200, B200)
}
# What people and drivers also call them.
_ALSO = {
    "a100": A100_80GB, "a100sxm": A100_80GB, "4090": RTX4090, "h100sxm": H100_SXM,
    "h100sxm5": H100_SXM, "h100sxm80gb": H100_SXM, "h200sxm": H200,
}  # fmt: skip


def gpu_by_name(name: str) -> DeviceFacts:
    """The table's entry for a key ("h200", "a100-80gb") or a driver's name ("NVIDIA H200").

    Raises SetupError that lists the known keys.
    """
    wanted = _plain(name)
    for gpu in GPUS.values():
        if wanted in (_plain(gpu.key), _plain(gpu.name)):
            return gpu
    if wanted in _ALSO:
        return _ALSO[wanted]
    known = ", ".join(sorted(GPUS))
    raise SetupError(f"No figures are known for the GPU {name!r}: choose one of {known}.")


def _plain(name: str) -> str:
    words = re.split(r"[\s_-]+", name.lower())
    return "".join(word for word in words if word not in ("nvidia", "geforce", "tesla"))
