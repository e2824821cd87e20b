"""What runs on the cpu device is compiled for its target too, where NVRTC is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from search_engine.devices._base import Program, Rejected
from search_engine.devices.cpu.device import CpuDevice
from search_engine.devices.cuda import headers
from search_engine.hardware import A100_80GB, H200
from search_engine.verdict import Finding

KERNELS = Path(__file__).parent / "kernels"
X = torch.ones(64)
OWN = "mma.cu", "async_copies.cu", "ldmatrix.cu", "wmma.cu", "groups.cu", "cuda_std.cu"
LAUNCH = "// launch: f<<<1, 64>>>(x, out)\n"
HEAD = LAUNCH + 'extern "C" __global__ void f(const float* x, float* out) {\n'
COPY = HEAD + "  out[threadIdx.x] = x[threadIdx.x];\n}\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module")
def device(cache, compiler):
    """``compiler`` skips where NVRTC is not installed."""
    made = CpuDevice(H200, cache=cache)
    yield made
    made.close()


def test_registers_are_the_targets(device, compile_one) -> None:
    _, program = compile_one(device, COPY, {"x": X}, {"out": X})
    assert isinstance(program, Program)
    [build] = program.builds
    assert build.registers
    assert build.shared_bytes == 0
    assert build.local_bytes == 0


def test_what_does_not_compile_for_the_target_is_rejected(device, compile_one) -> None:
    """g++ takes C's designated initialisers for arrays."""
    source = HEAD + "  int table[] = {[0] = 1};\n  out[threadIdx.x] = x[0] * table[0];\n}\n"
    _, result = compile_one(device, source, {"x": X}, {"out": X})
    assert isinstance(result, Rejected)
    assert result.findings[0].check == "compile"
    assert "NVRTC, sm_90a" in result.findings[0].message


@pytest.mark.parametrize("name", OWN)
def test_the_tests_own_kernels_compile_for_the_target(name, compiler) -> None:
    """What the cpu device executes in its tests is what the GPU's compiler takes."""
    [outcome] = compiler.compile([(KERNELS / name).read_text()], "sm_90a")
    assert getattr(outcome, "findings", ()) == ()


def test_a_missing_compiler_is_a_note(cache, compile_one, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "search_engine.devices.cuda.build", None)
    device = CpuDevice(A100_80GB, cache=cache)
    task, program = compile_one(device, COPY, {"x": X}, {"out": X})
    assert isinstance(program, Program)
    ran = device.execute(program, task, {"x": X}, checked=True)
    device.close()
    assert ran.findings == ()
    [note] = ran.notes
    assert note.startswith("not compiled for sm_80: ")
    assert headers.ADVICE in note


@pytest.mark.parametrize(
    "blame",
    [
        'cannot open source file "cooperative_groups.h": CUDA\'s own headers are all there is',
        "nvrtc: error: invalid value for --gpu-architecture (-arch)\n",
    ],
)
def test_what_the_installation_lacks_is_a_note(blame, cache, compile_one, monkeypatch) -> None:
    """Wheels without CCCL, an NVRTC older than the target: that is no kernel's fault."""
    build = pytest.importorskip("search_engine.devices.cuda.build")
    monkeypatch.setattr(
        build, "build", lambda kernels, *_: [Rejected(kernels[0], (Finding("compile", blame),))]
    )
    device = CpuDevice(H200, cache=cache)
    task, program = compile_one(device, COPY, {"x": X}, {"out": X})
    assert isinstance(program, Program)
    ran = device.execute(program, task, {"x": X}, checked=True)
    device.close()
    assert ran.notes == (f"not compiled for sm_90a: {blame.strip()}",)
