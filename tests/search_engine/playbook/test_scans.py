"""Running sums, products and extremes: what the analyser makes of them, and their kernels."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    means(
        captured, draws=[("ties", 1)], special=special and dtype == "float32" and "log" not in text
    )


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
