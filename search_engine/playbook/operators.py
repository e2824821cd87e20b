"""The pointwise ATen operators: which primitives each is, where its operands and options stand.

Adding an operator is a line in ``ATEN``, and one in ``primitives`` if it is a new one.
"""

from __future__ import annotations

import math

from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression
from search_engine.playbook.formulas import (
    Builder,
    Operands,
    Options,
    add_product,
    by_kind,
    celu,
    clamp,
    division,
    elu,
    floor_divide,
    gelu,
    hardtanh,
    is_finite,
    is_infinite,
    is_nan,
    lerp,
    logaddexp,
    logit,
    masked_fill,
    minus_softplus,
    nan_to_num,
    plain,
    power,
    rsub,
    scaled,
    selu,
    shrink,
    softsign,
    threshold,
    times,
    with_options,
    xlogy,
)

_UNARY = [
    "neg", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2",
    "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "erf", "erfc", "floor", "ceil", "trunc", "round", "relu", "sigmoid", "silu", "mish",
    "hardsigmoid", "hardswish", "sign", "erfinv", "asinh", "acosh", "atanh", "lgamma",
]  # fmt: skip
_BINARY = [
    "mul", "maximum", "minimum", "atan2", "lt", "le", "gt", "ge", "eq", "ne",
    "where", "hypot", "copysign",
]  # fmt: skip

ATEN: dict[str, Builder] = {
    **{op: plain(op) for op in (*_UNARY, *_BINARY)},
    "abs": by_kind("abs", "abs_int"),
    "absolute": by_kind("abs", "abs_int"),
    "sgn": plain("sign"),
    "special_erf": plain("erf"),
    "special_expit": plain("sigmoid"),
    "special_log1p": plain("log1p"),
    "special_gammaln": plain("lgamma"),
    "arctan2": plain("atan2"),
    "isnan": is_nan,
    "isinf": is_infinite,
    "isfinite": is_finite,
    "nan_to_num": nan_to_num,
    "xlogy": xlogy,
    "special_xlogy": xlogy,
    "logaddexp": logaddexp,
    "logit": logit,
    "special_logit": logit,
    "hardshrink": shrink(soft=False),
    "softshrink": shrink(soft=True),
    "deg2rad": times(math.pi / 180),
    "rad2deg": times(180 / math.pi),
    "frac": lambda x, option, dtype, name: Apply(
        "sub", (x[0], Apply("trunc", tuple(x), dtype)), dtype, name
    ),
    "logical_xor": lambda x, option, dtype, name: Apply(
        "ne", tuple(Apply("ne", (v, Constant(0, v.dtype)), "bool") for v in x), "bool", name
    ),
    "negative": plain("neg"),
    "square": lambda x, option, dtype, name: Apply("mul", (x[0], x[0]), dtype, name),
    "multiply": plain("mul"),
    "logical_and": plain("and"),
    "logical_or": plain("or"),
    "logical_not": plain("not"),
    "add": scaled("add"),
    "sub": scaled("sub"),
    "subtract": scaled("sub"),
    "rsub": rsub,
    "div": division,
    "divide": division,
    "true_divide": division,
    "floor_divide": floor_divide,
    "fmod": by_kind("fmod", "fmod_int"),
    "remainder": by_kind("modulo", "modulo_int"),
    "pow": power,
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": plain("clamp_min"),
    "clamp_max": plain("clamp_max"),
    "hardtanh": hardtanh,
    "relu6": lambda x, option, dtype, name: Apply(
        "clamp_max", (Apply("relu", tuple(x), dtype), Constant(6, dtype)), dtype, name
    ),
    "gelu": gelu,
    "softplus": with_options("softplus", (1, "beta", 1.0), (2, "threshold", 20.0)),
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "leaky_relu": with_options("leaky_relu", (1, "negative_slope", 0.01)),
    "threshold": threshold,
    "softsign": softsign,
    "log_sigmoid": minus_softplus,
    "masked_fill": masked_fill,
    "addcmul": add_product("mul"),
    "addcdiv": add_product("div"),
    "lerp": lerp,
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

# How many leading arguments are operands; the others are options.
OPERANDS: dict[str, int] = {
    **dict.fromkeys(
        [
            "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide",
            "pow", "maximum", "minimum", "atan2", "arctan2", "fmod", "remainder", "floor_divide",
            "lt", "le", "gt", "ge", "eq", "ne", "hypot", "copysign", "xlogy", "special_xlogy",
            "logaddexp", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
            "bitwise_xor", "__and", "__or", "__xor", "__lshift", "__rshift",
            "bitwise_left_shift", "bitwise_right_shift", "clamp_min", "clamp_max",
        ],
        2,
    ),
    **dict.fromkeys(["where", "masked_fill", "addcmul", "addcdiv", "lerp"], 3),
}  # fmt: skip

# Bitwise operators on bool, also as Python's &, |, ^ come out of the export.
_LOGICAL = {
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not", "bitwise_xor": "ne",
    "__and": "and", "__or": "or", "__xor": "ne",
}  # fmt: skip
# The same on integers.
_BITWISE = {
    "bitwise_and": "bit_and", "bitwise_or": "bit_or", "bitwise_not": "bit_not",
    "bitwise_xor": "bit_xor", "__and": "bit_and", "__or": "bit_or", "__xor": "bit_xor",
    "__lshift": "shift_left", "__rshift": "shift_right", "bitwise_left_shift": "shift_left",
    "bitwise_right_shift": "shift_right",
}  # fmt: skip

_INTEGER = frozenset([
    "add", "sub", "rsub", "mul", "multiply", "neg", "negative", "lt", "le", "gt", "ge", "eq",
    "ne", "where", "masked_fill", "logical_and", "logical_or", "logical_not", "logical_xor",
    "maximum", "minimum", "clamp", "clip", "clamp_min", "clamp_max", "relu", "square", "subtract",
    "remainder", "fmod", "floor_divide", "abs", "absolute", "sign", "sgn", "pow", "isnan", "isinf",
    "isfinite", "addcmul", "relu6", "hardtanh",
])  # fmt: skip

# bool + bool is "or", bool · bool is "and" in torch; in C they would be integers.
_OF_BOOLS = {"add": "or", "mul": "and", "multiply": "and", "maximum": "or", "minimum": "and"}
_NARROW = ("uint8", "int8", "int16")


def covers(aten: str, dtype: str) -> bool:
    """Whether the ATen operator (``gelu`` of ``aten.gelu.default``) has a spelling here."""
    if aten in _BITWISE:
        return not is_float(dtype) and (dtype != "bool" or aten in _LOGICAL)
    return aten in ATEN and (is_float(dtype) or aten in _INTEGER)


def build(aten: str, x: Operands, option: Options, dtype: str, name: str) -> Expression:
    """The expression of one ATen call on operands (literals among them as Constant)."""
    if dtype == "bool" and aten in {**_LOGICAL, **_OF_BOOLS}:
        return Apply({**_LOGICAL, **_OF_BOOLS}[aten], tuple(x), dtype, name)
    if aten in _BITWISE:
        value: Expression = Apply(_BITWISE[aten], tuple(x), dtype, name)
    else:
        value = ATEN[aten](x, option, dtype, name)
    return Apply(f"to_{dtype}", (value,), dtype, name) if dtype in _NARROW else value


def converted(value: Expression, dtype: str, name: str) -> Expression:
    """The value in another dtype; narrow integers wrap around."""
    if dtype not in _NARROW:
        return Apply("cast", (value,), dtype, name)
    whole = value if not is_float(value.dtype) else Apply("cast", (value,), dtype)
    return Apply(f"to_{dtype}", (whole,), dtype, name)
