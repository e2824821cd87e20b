"""Facts about GPUs: the limits a kernel is checked against and the rates of the roofline."""

from __future__ import annotations

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


# dram: a device-to-device copy through torch, bytes read plus written, measured on one
# H200. Other rates: NVIDIA H200 datasheet (SXM); sizes: CUDA C++ programming guide,
# table "Technical specifications per compute capability", 9.0.
H200 = DeviceFacts(
    key="h200",
    name="NVIDIA H200",
    compute_capability=(9, 0),
    sm_count=132,
    clock_hz=1.98e9,
    shared_per_block=232448,
    shared_per_sm=233472,
    registers_per_sm=65536,
    threads_per_sm=2048,
    blocks_per_sm=32,
    l2_bytes=60 * 2**20,
    dram_bytes_per_second=4.28e12,
    fp32_flops=67e12,
    fp64_flops=34e12,
    tf32_flops=495e12,
    half_flops=989e12,
    max_cluster=16,
)

GPUS: dict[str, DeviceFacts] = {gpu.key: gpu for gpu in (H200,)}


def gpu_by_name(name: str) -> DeviceFacts:
    """The table's entry for a key ("h200") or a full name ("NVIDIA H200").

    Raises SetupError that lists the known ones.
    """
    wanted = name.lower().removeprefix("nvidia ").replace(" ", "").replace("-", "")
    if wanted in GPUS:
        return GPUS[wanted]
    known = ", ".join(sorted(GPUS))
    raise SetupError(f"No figures are known for the GPU {name!r}: choose one of {known}.")
