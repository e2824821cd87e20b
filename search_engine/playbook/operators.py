"""The pointwise ATen operators: which primitives each is, where its operands and options stand.

Adding an operator is a line in ``ATEN``, and one in ``primitives`` if it is a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression

Operands = Sequence[Expression]
Options = Callable[[int, str, object], object]  # position, name, default → literal
Builder = Callable[[Operands, Options, str, str], Expression]


def _plain(primitive: str) -> Builder:
    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        return Apply(primitive, tuple(x), dtype, name)

    return build


def _scaled(primitive: str) -> Builder:
    """add, sub: the second operand times ``alpha``."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        alpha = option(2, "alpha", 1)
        second = x[1]
        if alpha != 1:
            second = Apply("mul", (second, _number(alpha, dtype)), dtype)
        return Apply(primitive, (x[0], second), dtype, name)

    return build


def _with_options(primitive: str, *options: tuple[int, str, float]) -> Builder:
    """A primitive whose trailing operands are literals with defaults."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        extra = tuple(_number(option(i, key, value), dtype) for i, key, value in options)
        return Apply(primitive, (x[0], *extra), dtype, name)

    return build


def _number(value: object, dtype: str) -> Constant:
    assert isinstance(value, (int, float)), f"{value!r} is no number"
    return Constant(value, dtype)


def _rsub(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    first = x[0]
    alpha = option(2, "alpha", 1)
    if alpha != 1:
        first = Apply("mul", (first, _number(alpha, dtype)), dtype)
    return Apply("sub", (x[1], first), dtype, name)


def _power(x: Operands, option: Options, dtype: str, name: str) -> Expression:
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
    return Apply("pow", (base, exponent), dtype, name)


def _division(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    mode = option(2, "rounding_mode", None)
    quotient = Apply("div", tuple(x), dtype, name)
    if mode is None:
        return quotient
    return Apply("floor" if mode == "floor" else "trunc", (quotient,), dtype, name)


def _by_kind(floating: str, integer: str) -> Builder:
    """One primitive for floats, another for integers."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        return Apply(floating if is_float(dtype) else integer, tuple(x), dtype, name)

    return build


def _floor_divide(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    if not is_float(dtype):
        return Apply("floor_divide", tuple(x), dtype, name)
    return Apply("floor", (Apply("div", tuple(x), dtype),), dtype, name)


def _clamp(x: Operands, option: Options, dtype: str, name: str) -> Expression:
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


def _hardtanh(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    low = _number(option(1, "min_val", -1.0), dtype)
    high = _number(option(2, "max_val", 1.0), dtype)
    return Apply("clamp_max", (Apply("clamp_min", (x[0], low), dtype), high), dtype, name)


def _gelu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    tanh_form = option(1, "approximate", "none") == "tanh"
    return Apply("gelu_tanh" if tanh_form else "gelu", tuple(x), dtype, name)


def _masked_fill(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    return Apply("where", (x[1], x[2], x[0]), dtype, name)


def _add_product(primitive: str) -> Builder:
    """addcmul, addcdiv: x + value · a (· or /) b."""

    def build(x: Operands, option: Options, dtype: str, name: str) -> Expression:
        term = Apply(primitive, (x[1], x[2]), dtype)
        value = option(3, "value", 1)
        if value != 1:
            term = Apply("mul", (_number(value, dtype), term), dtype)
        return Apply("add", (x[0], term), dtype, name)

    return build


def _lerp(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    step = Apply("mul", (x[2], Apply("sub", (x[1], x[0]), dtype)), dtype)
    return Apply("add", (x[0], step), dtype, name)


def _threshold(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    limit = _number(option(1, "threshold", 0), dtype)
    value = _number(option(2, "value", 0), dtype)
    return Apply("where", (Apply("le", (x[0], limit), "bool"), value, x[0]), dtype, name)


def _softsign(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    one = Constant(1, dtype)
    return Apply("div", (x[0], Apply("add", (one, Apply("abs", (x[0],), dtype)), dtype)), dtype)


def _minus_softplus(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """logsigmoid(x) = min(x, 0) − log1p(exp(−|x|)): neither end overflows."""
    exp = Apply("exp", (Apply("neg", (Apply("abs", (x[0],), dtype),), dtype),), dtype)
    low = Apply("clamp_max", (x[0], Constant(0, dtype)), dtype)
    return Apply("sub", (low, Apply("log1p", (exp,), dtype)), dtype, name)


_UNARY = [
    "neg", "abs", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2",
    "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "erf", "erfc", "floor", "ceil", "trunc", "round", "relu", "sigmoid", "silu", "mish",
    "hardsigmoid", "hardswish", "sign",
]  # fmt: skip
_BINARY = [
    "mul", "maximum", "minimum", "atan2", "lt", "le", "gt", "ge", "eq", "ne",
    "where",
]  # fmt: skip

# SELU's constants: Klambauer et al., 2017, as in torch.
_SELU_SCALE, _SELU_NEGATIVE = 1.0507009873554805, 1.6732632423543772 * 1.0507009873554805


def _selu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    numbers = tuple(Constant(v, dtype) for v in (_SELU_NEGATIVE, _SELU_SCALE, 1.0))
    return Apply("elu", (x[0], *numbers), dtype, name)


def _celu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    alpha = option(1, "alpha", 1.0)
    assert isinstance(alpha, (int, float))
    numbers = tuple(Constant(v, dtype) for v in (alpha, 1.0, 1.0 / alpha))
    return Apply("elu", (x[0], *numbers), dtype, name)


def _elu(x: Operands, option: Options, dtype: str, name: str) -> Expression:
    alpha, scale = option(1, "alpha", 1.0), option(2, "scale", 1.0)
    assert isinstance(alpha, (int, float))
    assert isinstance(scale, (int, float))
    input_scale = _number(option(3, "input_scale", 1.0), dtype)
    numbers = (Constant(alpha * scale, dtype), Constant(scale, dtype), input_scale)
    return Apply("elu", (x[0], *numbers), dtype, name)


ATEN: dict[str, Builder] = {
    **{op: _plain(op) for op in (*_UNARY, *_BINARY)},
    "absolute": _plain("abs"),
    "negative": _plain("neg"),
    "square": lambda x, option, dtype, name: Apply("mul", (x[0], x[0]), dtype, name),
    "multiply": _plain("mul"),
    "logical_and": _plain("and"),
    "logical_or": _plain("or"),
    "logical_not": _plain("not"),
    "add": _scaled("add"),
    "sub": _scaled("sub"),
    "subtract": _scaled("sub"),
    "rsub": _rsub,
    "div": _division,
    "divide": _division,
    "true_divide": _division,
    "floor_divide": _floor_divide,
    "fmod": _by_kind("fmod", "fmod_int"),
    "remainder": _by_kind("modulo", "modulo_int"),
    "pow": _power,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _plain("clamp_min"),
    "clamp_max": _plain("clamp_max"),
    "hardtanh": _hardtanh,
    "relu6": lambda x, option, dtype, name: Apply(
        "clamp_max", (Apply("relu", tuple(x), dtype), Constant(6, dtype)), dtype, name
    ),
    "gelu": _gelu,
    "softplus": _with_options("softplus", (1, "beta", 1.0), (2, "threshold", 20.0)),
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "leaky_relu": _with_options("leaky_relu", (1, "negative_slope", 0.01)),
    "threshold": _threshold,
    "softsign": _softsign,
    "log_sigmoid": _minus_softplus,
    "masked_fill": _masked_fill,
    "addcmul": _add_product("mul"),
    "addcdiv": _add_product("div"),
    "lerp": _lerp,
}

# In-place forms that torch.export leaves functional; ones that torch computes in the result's
# dtype need no cast of their operands (comparisons compare in the operands' own).
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})


# Tensors of one value: the value, or None where an argument gives it.
FILLED: dict[str, int | None] = {
    "full_like": None, "full": None, "new_full": None,
    "zeros_like": 0, "zeros": 0, "new_zeros": 0,
    "ones_like": 1, "ones": 1, "new_ones": 1,
}  # fmt: skip

# Bitwise operators on bool, also as Python's &, |, ^ come out of the export.
_LOGICAL = {
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not", "bitwise_xor": "ne",
    "__and": "and", "__or": "or", "__xor": "ne",
}  # fmt: skip


def covers(aten: str, dtype: str) -> bool:
    """Whether the ATen operator (``gelu`` of ``aten.gelu.default``) has a spelling here."""
    if aten in _LOGICAL:
        return dtype == "bool"
    if aten not in ATEN:
        return False
    integer_safe = [
        "add", "sub", "rsub", "mul", "multiply", "neg", "lt", "le", "gt", "ge", "eq", "ne",
        "where", "masked_fill", "logical_and", "logical_or", "logical_not", "maximum",
        "minimum", "clamp", "clamp_min", "clamp_max", "relu", "square", "subtract",
        "remainder", "fmod", "floor_divide",
    ]  # fmt: skip
    return is_float(dtype) or aten in integer_safe


def build(aten: str, x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """The expression of one ATen call on operands (literals among them as Constant)."""
    if aten in _LOGICAL:
        return Apply(_LOGICAL[aten], tuple(x), dtype, name)
    return ATEN[aten](x, option, dtype, name)
