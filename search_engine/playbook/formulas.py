"""Formulas of pointwise operators on primitives: what ``operators.ATEN`` builds with.

A builder gets the operands, its options (position, name, default → literal), the result's
dtype and the graph's name for it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression
from search_engine.playbook.program import Unsupported

Operands = Sequence[Expression]
Options = Callable[[int, str, object], object]  # position, name, default → literal
Builder = Callable[[Operands, Options, str, str], Expression]


def plain(primitive: str) -> Builder:
    """A primitive of the operands as they are."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        return Apply(primitive, tuple(x), dtype, name)

    return build


def scaled(primitive: str) -> Builder:
    """add, sub: the second operand times ``alpha``."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        alpha = option(2, "alpha", 1)
        second = x[1]
        if alpha != 1:
            second = Apply("mul", (second, number(alpha, dtype)), dtype)
        return Apply(primitive, (x[0], second), dtype, name)

    return build


def with_options(primitive: str, *options: tuple[int, str, float]) -> Builder:
    """A primitive whose trailing operands are literals with defaults."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        extra = tuple(number(option(i, key, value), dtype) for i, key, value in options)
        return Apply(primitive, (x[0], *extra), dtype, name)

    return build


def number(value: object, dtype: str) -> Constant:
    """A literal option as a constant."""
    assert isinstance(value, (int, float)), f"{value!r} is no number"
    return Constant(value, dtype)


def rsub(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """The second operand less ``alpha`` times the first."""
    first = x[0]
    alpha = option(2, "alpha", 1)
    if alpha != 1:
        first = Apply("mul", (first, number(alpha, dtype)), dtype)
    return Apply("sub", (x[1], first), dtype, name)


def power(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Small exponents as products and roots, others by ``pow``."""
    base, exponent = x
    value = exponent.value if isinstance(exponent, Constant) else None
    square = Apply("mul", (base, base), dtype, name)
    if value == 2:
        return square
    if value == 3:
        return Apply("mul", (square, base), dtype, name)
    if value == 4:
        return Apply("mul", (square, square), dtype, name)
    if value == 0.5:
        return Apply("sqrt", (base,), dtype, name)
    if value == -0.5:
        return Apply("rsqrt", (base,), dtype, name)
    if value == -1:
        return Apply("reciprocal", (base,), dtype, name)
    if value == 1:
        return base
    if not is_float(dtype):
        raise Unsupported("No playbook idea covers integers to the power of other than 1 to 4.")
    return Apply("pow", (base, exponent), dtype, name)


def division(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """True division, or rounded as ``rounding_mode`` says."""
    mode = option(2, "rounding_mode", None)
    quotient = Apply("div", tuple(x), dtype, name)
    if mode is None:
        return quotient
    return Apply("floor" if mode == "floor" else "trunc", (quotient,), dtype, name)


def by_kind(floating: str, integer: str) -> Builder:
    """One primitive for floats, another for integers."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        return Apply(floating if is_float(dtype) else integer, tuple(x), dtype, name)

    return build


def floor_divide(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """The quotient rounded down."""
    if not is_float(dtype):
        return Apply("floor_divide", tuple(x), dtype, name)
    return Apply("floor", (Apply("div", tuple(x), dtype),), dtype, name)


def clamp(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Between ``min`` and ``max``, literals or tensors, either of them absent."""
    value = x[0]
    for position, key in ((1, "min"), (2, "max")):
        bound = option(position, key, None)
        if isinstance(bound, (int, float)):
            value = Apply(f"clamp_{key}", (value, Constant(bound, dtype)), dtype, name)
        elif bound is not None:
            operand = x[1] if position == 1 or option(1, "min", None) is None else x[-1]
            op = "maximum" if key == "min" else "minimum"
            value = Apply(op, (value, operand), dtype, name)
    return value


def hardtanh(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Between two literals."""
    low = number(option(1, "min_val", -1.0), dtype)
    high = number(option(2, "max_val", 1.0), dtype)
    return Apply("clamp_max", (Apply("clamp_min", (x[0], low), dtype), high), dtype, name)


def gelu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """By erf, or in its tanh form."""
    tanh_form = option(1, "approximate", "none") == "tanh"
    return Apply("gelu_tanh" if tanh_form else "gelu", tuple(x), dtype, name)


def masked_fill(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """``masked_fill(x, mask, value)``."""
    return Apply("where", (x[1], x[2], x[0]), dtype, name)


def add_product(primitive: str) -> Builder:
    """addcmul, addcdiv: x + value · a (· or /) b."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        term = Apply(primitive, (x[1], x[2]), dtype)
        value = option(3, "value", 1)
        if value != 1:
            term = Apply("mul", (number(value, dtype), term), dtype)
        return Apply("add", (x[0], term), dtype, name)

    return build


def lerp(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """start + weight · (end − start)."""
    step = Apply("mul", (x[2], Apply("sub", (x[1], x[0]), dtype)), dtype)
    return Apply("add", (x[0], step), dtype, name)


def threshold(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """x above the threshold, else the value."""
    limit = number(option(1, "threshold", 0), dtype)
    value = number(option(2, "value", 0), dtype)
    return Apply("where", (Apply("le", (x[0], limit), "bool"), value, x[0]), dtype, name)


def softsign(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """x / (1 + |x|)."""
    one = Constant(1, dtype)
    return Apply("div", (x[0], Apply("add", (one, Apply("abs", (x[0],), dtype)), dtype)), dtype)


def minus_softplus(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """logsigmoid(x) = min(x, 0) − log1p(exp(−|x|)): neither end overflows."""
    exp = Apply("exp", (Apply("neg", (Apply("abs", (x[0],), dtype),), dtype),), dtype)
    low = Apply("clamp_max", (x[0], Constant(0, dtype)), dtype)
    return Apply("sub", (low, Apply("log1p", (exp,), dtype)), dtype, name)


def is_nan(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Whether the value is no number."""
    if not is_float(x[0].dtype):
        return Constant(False, "bool")
    return Apply("ne", (x[0], x[0]), "bool", name)


def is_infinite(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Whether the value is an infinity."""
    if not is_float(x[0].dtype):
        return Constant(False, "bool")
    size = Apply("abs", (x[0],), x[0].dtype)
    return Apply("eq", (size, Constant(math.inf, x[0].dtype)), "bool", name)


def is_finite(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """Whether the value is neither an infinity nor NaN."""
    if not is_float(x[0].dtype):
        return Constant(True, "bool")
    size = Apply("abs", (x[0],), x[0].dtype)
    return Apply("lt", (size, Constant(math.inf, x[0].dtype)), "bool", name)


def nan_to_num(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """NaN to ``nan``, infinities to ``posinf`` and ``neginf``: the dtype's ends by default."""
    value, most = x[0], _LARGEST.get(dtype, 3.4028234663852886e38)
    ends = ((1, "nan", 0.0), (2, "posinf", most), (3, "neginf", -most))
    numbers = [option(at, key, None) for at, key, _ in ends]
    nan, high, low = (
        number(default if given is None else given, dtype)
        for given, (_, _, default) in zip(numbers, ends, strict=True)
    )
    if not is_float(dtype):
        return value
    infinite = [Constant(sign * math.inf, dtype) for sign in (1, -1)]
    for infinity, end in zip(infinite, (high, low), strict=True):
        value = Apply("where", (Apply("eq", (x[0], infinity), "bool"), end, value), dtype)
    return Apply("where", (Apply("ne", (x[0], x[0]), "bool"), nan, value), dtype, name)


_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float64": sys.float_info.max}


def xlogy(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """x·log(y), 0 where x is, NaN where y is."""
    y_is_number = Apply("eq", (x[1], x[1]), "bool")
    is_zero = Apply("and", (Apply("eq", (x[0], Constant(0, dtype)), "bool"), y_is_number), "bool")
    product = Apply("mul", (x[0], Apply("log", (x[1],), dtype)), dtype)
    return Apply("where", (is_zero, Constant(0, dtype), product), dtype, name)


def logaddexp(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """max + log1p(exp(−|a − b|)); equal infinities are themselves."""
    top = Apply("maximum", (x[0], x[1]), dtype)
    gap = Apply("neg", (Apply("abs", (Apply("sub", (x[0], x[1]), dtype),), dtype),), dtype)
    tail = Apply("log1p", (Apply("exp", (gap,), dtype),), dtype)
    same = Apply("eq", (x[0], x[1]), "bool")
    infinite = Apply("eq", (Apply("abs", (x[0],), dtype), Constant(math.inf, dtype)), "bool")
    both = Apply("and", (same, infinite), "bool")
    return Apply("where", (both, x[0], Apply("add", (top, tail), dtype)), dtype, name)


def logit(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """log(p / (1 − p)), p kept eps away from 0 and 1."""
    value, eps = x[0], option(1, "eps", None)
    if isinstance(eps, (int, float)):
        low, high = Constant(eps, dtype), Constant(1 - eps, dtype)
        value = Apply("clamp_max", (Apply("clamp_min", (value, low), dtype), high), dtype)
    rest = Apply("sub", (Constant(1, dtype), value), dtype)
    return Apply("log", (Apply("div", (value, rest), dtype),), dtype, name)


def shrink(soft: bool) -> Builder:
    """hardshrink, softshrink: 0 within λ; outside x, or x less λ."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        limit = option(1, "lambd", 0.5)
        assert isinstance(limit, (int, float))
        above = Apply("gt", (x[0], Constant(limit, dtype)), "bool")
        below = Apply("lt", (x[0], Constant(-limit, dtype)), "bool")
        less = x[0], x[0]
        if soft:
            step = Constant(limit, dtype)
            less = Apply("sub", (x[0], step), dtype), Apply("add", (x[0], step), dtype)
        # 0·x keeps a NaN, as torch does.
        none = Apply("mul", (x[0], Constant(0, dtype)), dtype)
        inner = Apply("where", (below, less[1], none), dtype)
        return Apply("where", (above, less[0], inner), dtype, name)

    return build


def times(factor: float) -> Builder:
    """The operand times a constant."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        return Apply("mul", (x[0], Constant(factor, dtype)), dtype, name)

    return build


# SELU's constants: Klambauer et al., 2017, as in torch.
_SELU_SCALE, _SELU_NEGATIVE = 1.0507009873554805, 1.6732632423543772 * 1.0507009873554805


def selu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """ELU with SELU's constants."""
    numbers = tuple(Constant(v, dtype) for v in (_SELU_NEGATIVE, _SELU_SCALE, 1.0))
    return Apply("elu", (x[0], *numbers), dtype, name)


def celu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """alpha · expm1(x / alpha) below 0."""
    alpha = option(1, "alpha", 1.0)
    assert isinstance(alpha, (int, float))
    numbers = tuple(Constant(v, dtype) for v in (alpha, 1.0, 1.0 / alpha))
    return Apply("elu", (x[0], *numbers), dtype, name)


def elu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """scale · x above 0, alpha · scale · expm1(input_scale · x) below."""
    alpha, scale = option(1, "alpha", 1.0), option(2, "scale", 1.0)
    assert isinstance(alpha, (int, float))
    assert isinstance(scale, (int, float))
    input_scale = number(option(3, "input_scale", 1.0), dtype)
    numbers = (Constant(alpha * scale, dtype), Constant(scale, dtype), input_scale)
    return Apply("elu", (x[0], *numbers), dtype, name)
