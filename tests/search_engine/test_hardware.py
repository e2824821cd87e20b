"""The table of GPUs: names that find an entry, and figures that agree with each other."""

from __future__ import annotations

import attrs
import pytest

from search_engine.errors import SetupError
from search_engine.hardware import GPUS, gpu_by_name
from search_engine.settings import SearchSettings

# Multiply-adds count two, per clock and multiprocessor: CUDA C++ programming guide,
# "Throughput of native arithmetic instructions", and the architectures' white papers.
FP32_PER_CLOCK = {(8, 0): 128, (8, 9): 256, (9, 0): 256, (10, 0): 256}
HALF_PER_CLOCK = {(8, 0): 2048, (8, 9): 1024, (9, 0): 4096, (10, 0): 8192}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("h200", "h200"), ("NVIDIA H200", "h200"), ("H100", "h100"), ("h100-sxm", "h100"),
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H100 PCIe", "h100-pcie"),
        ("H100_PCIE", "h100-pcie"), ("a100", "a100-80gb"), ("A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("NVIDIA L40S", "l40s"), ("RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"), ("4090", "rtx4090"), ("b200", "b200"),
    ],
)  # fmt: skip
def test_a_gpu_goes_by_its_key_and_by_the_driver_s_name(name: str, key: str) -> None:
    assert gpu_by_name(name).key == key


@pytest.mark.parametrize("name", ["h1000", "NVIDIA H100 NVL", "NVIDIA A100 80GB PCIe", ""])
def test_an_unknown_gpu_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SetupError) as raised:
        gpu_by_name(name)
    assert all(key in str(raised.value) for key in GPUS)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_rates_follow_from_clock_and_multiprocessors(gpu) -> None:
    per_second = gpu.sm_count * gpu.clock_hz
    capability = gpu.compute_capability
    assert gpu.fp32_flops == pytest.approx(FP32_PER_CLOCK[capability] * per_second, rel=0.02)
    # Tensor units of some boards run at a lower clock, and GeForce at half rate.
    half = HALF_PER_CLOCK[capability] * per_second * (0.5 if gpu.key == "rtx4090" else 1.0)
    assert 0.9 * half <= gpu.half_flops <= 1.02 * half
    assert gpu.tf32_flops == pytest.approx(gpu.half_flops / 2, rel=0.03)
    assert gpu.fp64_flops < gpu.fp32_flops


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_sizes_are_what_the_capability_has(gpu) -> None:
    assert gpu.shared_per_sm - gpu.shared_per_block == 1024
    assert gpu.static_shared <= gpu.shared_per_block
    assert gpu.max_threads_per_block <= gpu.threads_per_sm
    assert gpu.arch == {
        (8, 0): "sm_80", (8, 9): "sm_89", (9, 0): "sm_90a", (10, 0): "sm_100a",
    }[gpu.compute_capability]  # fmt: skip
    assert (gpu.max_cluster > 1) == (gpu.compute_capability >= (9, 0))


def test_the_setting_names_every_gpu() -> None:
    doc = str(attrs.fields(SearchSettings).target.metadata["doc"])
    assert doc.endswith(": " + ", ".join(sorted(GPUS)) + ".")
    assert gpu_by_name(SearchSettings().target).key in GPUS
