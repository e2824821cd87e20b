"""Pointwise operators: what the analyser makes of them means what torch computes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.playbook.analyse import analyse
from search_engine.playbook.program import Unsupported

many = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

OF_FLOATS = [
    "torch.isnan(x / (x - x))", "torch.isinf(1 / (x - x))", "torch.isfinite(x)",
    "torch.nan_to_num(x / (x - x).abs(), posinf=3.0, neginf=-3.0)",
    "torch.nan_to_num(x / (x - x), nan=2.0, posinf=1.0, neginf=-1.0)",
    "torch.xlogy(x.relu(), y.abs())", "torch.logaddexp(x, y)", "torch.logit(x.sigmoid())",
    "torch.logit(x, eps=0.1)", "F.hardshrink(x)", "F.softshrink(x, 0.3)", "F.tanhshrink(x)",
    "torch.rad2deg(x)", "torch.frac(x * 3)", "torch.logical_xor(x > 0, y > 0)", "x.asinh()",
    "(x.abs() + 1).acosh()", "(x * 0.1).tanh().atanh()", "torch.lgamma(x.abs() + 1)",
    "torch.hypot(x, y)", "torch.copysign(x, y)", "torch.erfinv(x.tanh() * 0.9)", "F.glu(x, 1)",
    "F.prelu(x, self.w)", "F.rrelu(x)", "x.clamp(max=y.abs())", "(x > 0) * y",
    "(x > 0).float() + (y > 0)", "x.sgn() * y.sign()", "torch.special.expit(x)",
    "torch.where(torch.isinf(1 / x), 0, x)", "x.to(torch.int32) * y", "x ** 2 + (y * 3).long()",
    "F.softmin(x, dim=1)", "(x.half() * 2.0).float() * y", "x.double() * y", "2 ** x",
]  # fmt: skip


@many
@given(
    chosen=st.lists(st.sampled_from(OF_FLOATS), min_size=4, max_size=6, unique=True),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
)
def test_operators_of_floats(take, means, chosen, dtype):
    captured = take(
        f"x={dtype}[3, 4], y={dtype}[3, 4]", f"return {', '.join(chosen)},",
        f"self.w = nn.Parameter(torch.full((4,), 0.3, dtype=torch.{dtype}))", "x, y",
    )  # fmt: skip
    reach = {"bfloat16": 3e-2, "float16": 4e-3}.get(dtype, 1e-5)
    means(captured, draws=[("normal", 1)], reach=reach)


OF_INTEGERS = [
    "x & y", "x | y", "x ^ y", "~x", "x + y * 3", "x - y", "x << 2", "x >> 1", "x.abs()",
    "x.clamp(2, 5)", "x // 3", "x % 4", "x / y.clamp(min=1)", "x ** 2", "x == y", "-x", "x.sign()",
    "torch.maximum(x, y)", "x * 0.5", "x.float() / 2", "x.to(torch.uint8) + 250",
    "(x > 4) + (y > 4)",
    "(x > 4) * (y > 4)", "x.to(torch.int8) * 100 // 3", "torch.where(x > y, x, y * 2)",
    "x.bool().any(1)", "x.sqrt()", "x.masked_fill(x > 3, -1)",
]  # fmt: skip


@many
@given(
    chosen=st.lists(st.sampled_from(OF_INTEGERS), min_size=6, max_size=9, unique=True),
    dtype=st.sampled_from(["int64", "int32", "uint8"]),
)
def test_operators_of_integers(take, means, chosen, dtype):
    listed = [text for text in chosen if dtype != "uint8" or text not in ("-x", "x.sign()")]
    captured = take(
        f"x={dtype}[3, 4], y={dtype}[3, 4]", f"return {', '.join(listed)},", arguments="x, y"
    )
    means(captured, draws=[("default", 1)])


MIXED = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@many
@given(one=st.sampled_from(MIXED), two=st.sampled_from(MIXED))
def test_dtypes_are_promoted_as_in_torch(take, means, one, two):
    """Between two dtypes, and with a literal; a broadcast dimension on both sides."""
    captured = take(
        f"x={one}[3, 1, 4], y={two}[5, 1]",
        "return x * y, torch.where(x > y, x, y), x + 2, y * 0.5 + x",
        arguments="x, y",
    )
    narrow = {one, two} & {"float16", "bfloat16"}
    means(captured, draws=[("normal", 1)], reach=2e-2 if narrow else 1e-6)


def test_what_is_not_covered_is_named(take):
    with pytest.raises(Unsupported, match="power"):
        analyse(take("x=int64[4]", "return x ** 7").task)
    with pytest.raises(Unsupported, match=r"aten\.median"):
        analyse(take("x=float32[4]", "return x.median()").task)
