"""Running sums, products and extremes: what the analyser makes of them, and their kernels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas import ALL
from search_engine.playbook.program import Unsupported

many = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCANNED = [
    "x.cumsum({dim})", "x.cumprod({dim})", "x.cummax({dim})[0]", "x.cummax({dim})[1]",
    "x.cummin({dim})[0]", "x.cummin({dim})[1]", "x.flip({dim}).cumsum({dim}).flip({dim})",
    "x.sigmoid().cumsum({dim}) * x", "x.flip({dim}).cumsum({dim})", "torch.logcumsumexp(x, {dim})",
    "(x * (x > 0)).cumsum({dim})", "x.cumsum({dim}, dtype=torch.float64)",
    "x.flip({dim}).cummax({dim})[0].flip({dim})",
]  # fmt: skip


@many
@given(
    text=st.sampled_from(SCANNED),
    dim=st.integers(-3, 2),
    dtype=st.sampled_from(["float32", "float16", "float64"]),
    shape=st.sampled_from(["3, 5, 7", "1, 4, 2", "2, 1, 13"]),
    special=st.booleans(),
)
def test_scans_along_any_dimension(take, means, text, dim, dtype, shape, special):
    captured = take(f"x={dtype}[{shape}]", f"return {text.format(dim=dim)}")
    means(captured, draws=[("ties", 1)], special=special and dtype == "float32")


INTEGERS = [
    "x.cumsum(1)", "x.cumprod(1)", "x.cummax(1)[1]", "(x > 3).cumsum(0)", "x.cummin(0)[0]",
    "x.cumsum(1, dtype=torch.int32)", "x.cumsum(0, dtype=torch.float32) / 3",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_scans_of_integers(take, means, dtype):
    for text in INTEGERS:
        means(take(f"x={dtype}[4, 7]", f"return {text}"), draws=[("default", 1)])


EXCLUSIVE = {
    "zeros before": "torch.cat((torch.zeros_like(x[:, :1]), x.cumsum(1)[:, :-1]), 1)",
    "zeros before, one longer": "torch.cat((torch.zeros_like(x[:, :1]), x.cumsum(1)), 1)",
    "of zeros before": "torch.cat((torch.zeros_like(x[:, :1]), x), 1).cumsum(1)",
    "shifted": "F.pad(x.cumsum(1), (1, 0))[:, :-1]",
    "less itself": "x.cumsum(1) - x",
    "cut short": "x.cumsum(1)[:, :3]",
    "in two": "x.cumsum(1).view(4, 2, 4) * 2",
    "of rows": "x.cumsum(0).t()",
    "from the end, one less": "F.pad(x.flip(1).cumsum(1).flip(1), (0, 1))[:, 1:]",
    "beside its operand": "(x.cumsum(1), x * 2)",
}


@pytest.mark.parametrize("name", sorted(EXCLUSIVE))
def test_scans_that_are_shifted_and_cut(take, means, name):
    plan = means(take("x=float32[4, 8]", f"return {EXCLUSIVE[name]}"))
    assert len(plan.stages) == 1


# --- kernels ------------------------------------------------------------------------------

IDEAS = {idea.key: idea for idea in ALL}
ROWS = [
    Variant.of(team=8, vector=4, parts=1),
    Variant.of(team=32, vector=1, parts=1),
    Variant.of(team=128, vector=4, parts=1),
    Variant.of(team=128, vector=1, parts=4),
]
COLUMNS = [
    Variant.of(warps=1, parts=1, unroll=4),
    Variant.of(warps=4, parts=1, unroll=1),
    Variant.of(warps=2, parts=4, unroll=2),
]
KERNELS = {
    "sums and products": (
        "x=float32[3, 1300]",
        "return x.cumsum(1) * x + self.b, (1 + x * 1e-3).cumprod(1), x.sigmoid().cumsum(1) - x",
    ),
    "extremes": ("x=float32[3, 1300]", "return (*x.cummax(1), x.cummin(1)[1], x.cummin(1)[0] * 2)"),
    "reversed": ("x=float16[2, 3, 1040]", "return x.flip(2).cumsum(2).flip(2) * 0.5"),
    "integers": ("x=int64[5, 1300]", "return x.cumsum(1), (x > 4).cumsum(1) * 2"),
    "exclusive": (
        "x=float32[3, 1304]",
        "return torch.cat((torch.zeros_like(x[:, :1]), x.cumsum(1)[:, :-1]), 1) + x",
    ),
    "log sums": ("x=float32[3, 1300]", "return torch.logcumsumexp(x, 1)"),
    "doubles": ("x=float64[3, 1300]", "return x.cumsum(1)"),
    "down columns": ("x=float32[2, 45, 37]", "return x.cumsum(1) * x, x.cummax(1)[1]"),
    "down columns, reversed": ("x=float32[45, 70]", "return x.flip(0).cumsum(0).flip(0)"),
    "a row of odd length": ("x=float32[2, 1291]", "return x.cumsum(1)"),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernels_of_scans(take, agree, name):
    inputs, forward = KERNELS[name]
    captured = take(inputs, forward, "self.b = nn.Parameter(torch.ones(1300))")
    program = analyse(captured.task)
    (idea,) = [idea for idea in ALL if idea.applies(program, H200)]
    offered = ROWS if idea.key == "scan_rows" else COLUMNS
    variants = [v for v in offered if idea.valid(program, v, H200)]
    assert len(variants) >= 2
    agree(captured, [idea.render(program, v, H200) for v in variants], draws=[("normal", 1)])


def test_errors_do_not_grow_along_the_row(take, cpu):
    """Terms of one sign: a plain running sum of 60,000 floats is off by 1e-5 and more."""
    captured = take("x=float32[1, 60000]", "return x.abs().cumsum(1)")
    program = analyse(captured.task)
    idea = IDEAS["scan_rows"]
    variants = [Variant.of(team=32, vector=1, parts=1), Variant.of(team=128, vector=4, parts=4)]
    tensors = captured.tensors(captured.draw(1, "uniform"))
    exact = tensors["x"].double().abs().cumsum(1)
    kernels = [parse(idea.render(program, v, H200)) for v in variants]
    for built in cpu.compile(kernels, captured.task):
        out = cpu.execute(built, captured.task, tensors, checked=False).outputs["out"]
        error = torch.linalg.vector_norm(out.double() - exact) / torch.linalg.vector_norm(exact)
        assert error < 1e-7


def test_kernels_of_scans_compile(take, nvrtc):
    for inputs, forward in (KERNELS["extremes"], KERNELS["exclusive"], KERNELS["down columns"]):
        task = take(inputs, forward).task
        program = analyse(task)
        (idea,) = [idea for idea in ALL if idea.applies(program, H200)]
        for variant in idea.variants(program, H200)[:3]:
            source = idea.render(program, variant, H200)
            assert check(parse(source), task, H200) == []
            assert nvrtc(source)


def test_what_is_not_covered_is_said(take):
    for text, words in {
        "x.cumsum(1)[:, 2:]": "cut up",
        "x.cumsum(1).cumsum(1)": "two scans",
        "x.cumsum(1).sum(1)": "a scan and a reduction",
        "x.flip(1).cummax(1)[1].flip(1)": "in reverse",
    }.items():
        with pytest.raises(Unsupported, match=words):
            analyse(take("x=float32[4, 8]", f"return {text}").task)
