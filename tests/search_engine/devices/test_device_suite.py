"""What every device passes: the same kernels, the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from search_engine.devices._base import Device, Program

KERNELS = Path(__file__).parent / "kernels"

Tensors = dict[str, torch.Tensor]


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=_draw(), dtype=torch.float64).to(dtype)


def layer_norm() -> tuple[Tensors, torch.Tensor]:
    x, w, b = _randn(9, 515) + 3, _randn(515), _randn(515)
    return {"x": x, "weight": w, "bias": b}, F.layer_norm(x, (515,), w, b)


def softmax() -> tuple[Tensors, torch.Tensor]:
    x = 10 * _randn(7, 301)
    return {"x": x}, x.softmax(1)


def matmul() -> tuple[Tensors, torch.Tensor]:
    a, b = _randn(37, 41), _randn(41, 53)
    return {"a": a, "b": b}, a @ b


def conv2d() -> tuple[Tensors, torch.Tensor]:
    x, w, b = _randn(2, 3, 11, 13), _randn(4, 3, 3, 3), _randn(4)
    return {"x": x, "w": w, "b": b}, F.conv2d(x, w, b, padding=1)


def transpose() -> tuple[Tensors, torch.Tensor]:
    x = _randn(67, 45)
    return {"x": x}, x.t().contiguous()


def half_gelu() -> tuple[Tensors, torch.Tensor]:
    x = _randn(1, 1001, dtype=torch.float16)
    return {"x": x}, F.gelu(x)


def bf16_add() -> tuple[Tensors, torch.Tensor]:
    x, y = _randn(333, dtype=torch.bfloat16), _randn(333, dtype=torch.bfloat16).flip(0)
    return {"x": x, "y": y}, torch.add(x, y, alpha=0.5)


def float4_relu() -> tuple[Tensors, torch.Tensor]:
    x = _randn(20, 256)
    return {"x": x}, x.relu()


def ballot_compact() -> tuple[Tensors, torch.Tensor]:
    x = _randn(1000)
    count = int((x > 0).sum())
    return {"x": x}, torch.tensor([count, 32 - count.bit_length()], dtype=torch.int32)


def group_reduce() -> tuple[Tensors, torch.Tensor]:
    x = _randn(21, 77)
    return {"x": x}, x.sum(1)


def histogram() -> tuple[Tensors, torch.Tensor]:
    x = torch.randint(0, 64, (5000,), generator=_draw(), dtype=torch.int32)
    return {"x": x}, torch.bincount(x, minlength=64).to(torch.int32)


def last_block() -> tuple[Tensors, torch.Tensor]:
    x = _randn(40000)
    return {"x": x}, x.sum().reshape(1)


def grid_sync() -> tuple[Tensors, torch.Tensor]:
    x = _randn(3000).abs()
    return {"x": x}, x / x.sum()


def scan() -> tuple[Tensors, torch.Tensor]:
    x = _randn(3, 700)
    return {"x": x}, x.cumsum(1)


def double_norm() -> tuple[Tensors, torch.Tensor]:
    x = _randn(5, 200, dtype=torch.float64)
    return {"x": x}, 0.5 * x.square().sum(1).sqrt() + x.sum(1)


CASES: list[Callable[[], tuple[Tensors, torch.Tensor]]] = [
    layer_norm, softmax, matmul, conv2d, transpose, half_gelu, bf16_add, float4_relu,
    ballot_compact, group_reduce, histogram, last_block, grid_sync, scan, double_norm,
]  # fmt: skip


@pytest.fixture(
    scope="module",
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "cpu":
        yield request.getfixturevalue("cpu")
        return
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    from search_engine.devices.cuda.device import CudaDevice

    cuda = CudaDevice(0)
    yield cuda
    cuda.close()


def _case(case, compile_one, device):
    inputs, expected = case()
    source = (KERNELS / f"{case.__name__}.cu").read_text()
    task, program = compile_one(device, source, inputs, {"out": expected})
    assert isinstance(program, Program), program
    placed = {name: tensor.to(device.torch_device) for name, tensor in inputs.items()}
    return task, program, placed, expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_answers(case, device: Device, compile_one) -> None:
    task, program, inputs, expected = _case(case, compile_one, device)
    for checked, offset in ((True, 0), (False, 0), (False, 3)):
        execution = device.execute(program, task, inputs, checked=checked, offset=offset)
        assert execution.findings == ()
        out = execution.outputs["out"].cpu()
        # Sums of a few hundred terms in another order; half and bfloat16 by one rounding.
        torch.testing.assert_close(out, expected, **_tolerance(expected.dtype))


def _tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {
        torch.float16: {"rtol": 2e-3, "atol": 1e-4},
        torch.bfloat16: {"rtol": 1e-2, "atol": 1e-3},
        torch.float64: {"rtol": 1e-12, "atol": 1e-12},
        torch.int32: {"rtol": 0.0, "atol": 0.0},
    }.get(dtype, {"rtol": 1e-4, "atol": 1e-5})


def test_repeated_runs_agree(device: Device, compile_one) -> None:
    task, program, inputs, _ = _case(layer_norm, compile_one, device)
    first, second = (
        device.execute(program, task, inputs, checked=False).outputs["out"] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_outputs_are_the_callers_own(device: Device, compile_one) -> None:
    """A later run does not reach into an earlier one's outputs."""
    task, program, inputs, _ = _case(softmax, compile_one, device)
    first = device.execute(program, task, inputs, checked=False).outputs["out"]
    kept = first.clone()
    other = {"x": inputs["x"] + torch.arange(7, device=inputs["x"].device)[:, None] * inputs["x"]}
    device.execute(program, task, other, checked=False)
    assert torch.equal(first, kept)


WRITES_BEHIND = """\
// launch: f<<<1, 32>>>(x, out)
extern "C" __global__ void f(const float* x, float* out) {
  out[threadIdx.x] = x[threadIdx.x];
  if (threadIdx.x == 31) out[35] = 1.0f;
}
"""

CHANGES_INPUT = """\
// launch: f<<<1, 32>>>(x, out)
extern "C" __global__ void f(float* x, float* out) {
  out[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] += 1.0f;
}
"""

WRITES_HALF = """\
// launch: f<<<1, 16>>>(x, out)
extern "C" __global__ void f(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }
"""


@pytest.mark.parametrize("source", [WRITES_BEHIND, CHANGES_INPUT])
def test_writes_where_none_belong_are_findings(source, device: Device, compile_one) -> None:
    x = _randn(32).to(device.torch_device)
    task, program = compile_one(device, source, {"x": x}, {"out": x})
    assert isinstance(program, Program)
    assert device.execute(program, task, {"x": x}, checked=True).findings


def test_what_is_not_written_is_nan(device: Device, compile_one) -> None:
    x = _randn(32).to(device.torch_device)
    task, program = compile_one(device, WRITES_HALF, {"x": x}, {"out": x})
    assert isinstance(program, Program)
    out = device.execute(program, task, {"x": x}, checked=False).outputs["out"]
    assert torch.equal(out[:16], x[:16])
    assert out[16:].isnan().all()


BROKEN = [
    ("out[0] = undeclared;", 3),
    ("float f = \n; out[0] = f;", 4),
]


@pytest.mark.parametrize(("statement", "line"), BROKEN)
def test_compile_errors_have_the_line(statement, line, device: Device, compile_one) -> None:
    source = '// launch: f<<<1, 1>>>(out)\nextern "C" __global__ void f(float* out) {\n'
    _, rejected = compile_one(device, source + statement + "\n}\n", {}, {"out": _randn(1)})
    assert not isinstance(rejected, Program)
    assert rejected.findings[0].check == "compile"
    assert rejected.findings[0].line == line


def test_compiling_keeps_the_order(device: Device, make_task) -> None:
    from search_engine.contract.parse import parse

    task = make_task({"x": _randn(32)}, {"out": _randn(32)})
    bad = WRITES_HALF.replace("out[threadIdx.x] =", "nothing[threadIdx.x] =")
    results = device.compile([parse(s) for s in (WRITES_HALF, bad, CHANGES_INPUT)], task)
    assert [isinstance(result, Program) for result in results] == [True, False, True]
    assert [r.kernel.source for r in results] == [WRITES_HALF, bad, CHANGES_INPUT]
