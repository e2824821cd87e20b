"""The pointwise primitives: how each is spelt in CUDA-C, and roughly what it costs."""

from __future__ import annotations

from attrs import frozen

# Binding strength of what a primitive's text leaves at its top, as in C.
CALL, PRODUCT, SUM, COMPARISON, TERNARY = 5, 4, 3, 2, 1


@frozen
class Primitive:
    """The CUDA-C of one operator.

    ``text`` is a format string: ``{0}`` operands, ``{f}`` the suffix of math functions
    ("f" for float), ``{T}`` the compute type. ``helper`` is a device function that the
    kernel then defines once. ``cost`` counts instructions, roughly, for the time model.
    """

    text: str
    strength: int = CALL
    helper: str = ""
    cost: int = 1


def _function(name: str, parameters: str, body: str, comment: str) -> str:
    """A one-line device helper; T and the suffix are filled in by the emitter."""
    typed = ", ".join("{T} " + p for p in parameters.split())
    return (
        f"// {comment}\n__device__ __forceinline__ {{T}} {name}({typed}) {{{{\n"
        f"  return {body};\n}}}}"
    )


PRIMITIVES: dict[str, Primitive] = {
    "add": Primitive("{0} + {1}", SUM),
    "sub": Primitive("{0} - {1}", SUM),
    "mul": Primitive("{0} * {1}", PRODUCT),
    "div": Primitive("{0} / {1}", PRODUCT, cost=9),
    "neg": Primitive("-{0}", PRODUCT),
    "abs": Primitive("fabs{f}({0})"),
    "abs_int": Primitive(
        "abs_int({0})", helper=_function("abs_int", "x", "x < 0 ? -x : x", "For integers."), cost=2
    ),
    "reciprocal": Primitive("1 / {0}", PRODUCT, cost=8),
    "sqrt": Primitive("sqrt{f}({0})", cost=8),
    "rsqrt": Primitive("rsqrt{f}({0})", cost=3),
    "exp": Primitive("exp{f}({0})", cost=7),
    "exp2": Primitive("exp2{f}({0})", cost=4),
    "expm1": Primitive("expm1{f}({0})", cost=14),
    "log": Primitive("log{f}({0})", cost=16),
    "log2": Primitive("log2{f}({0})", cost=14),
    "log10": Primitive("log10{f}({0})", cost=16),
    "log1p": Primitive("log1p{f}({0})", cost=18),
    "sin": Primitive("sin{f}({0})", cost=20),
    "cos": Primitive("cos{f}({0})", cost=20),
    "tan": Primitive("tan{f}({0})", cost=25),
    "asin": Primitive("asin{f}({0})", cost=20),
    "acos": Primitive("acos{f}({0})", cost=20),
    "atan": Primitive("atan{f}({0})", cost=18),
    "sinh": Primitive("sinh{f}({0})", cost=20),
    "cosh": Primitive("cosh{f}({0})", cost=16),
    "tanh": Primitive("tanh{f}({0})", cost=16),
    "erf": Primitive("erf{f}({0})", cost=18),
    "erfc": Primitive("erfc{f}({0})", cost=22),
    "erfinv": Primitive("erfinv{f}({0})", cost=30),
    "asinh": Primitive("asinh{f}({0})", cost=30),
    "acosh": Primitive("acosh{f}({0})", cost=30),
    "atanh": Primitive("atanh{f}({0})", cost=25),
    "lgamma": Primitive("lgamma{f}({0})", cost=60),
    "hypot": Primitive("hypot{f}({0}, {1})", cost=25),
    "copysign": Primitive("copysign{f}({0}, {1})", cost=2),
    "floor": Primitive("floor{f}({0})"),
    "ceil": Primitive("ceil{f}({0})"),
    "trunc": Primitive("trunc{f}({0})"),
    "round": Primitive("rint{f}({0})"),
    "pow": Primitive("pow{f}({0}, {1})", cost=40),
    "atan2": Primitive("atan2{f}({0}, {1})", cost=30),
    "fmod": Primitive("fmod{f}({0}, {1})", cost=30),
    "fmod_int": Primitive("{0} % {1}", PRODUCT, cost=20),
    "modulo": Primitive(
        "modulo({0}, {1})",
        helper=_function(
            "modulo",
            "a b",
            "fmod{f}(a, b) != 0 && (fmod{f}(a, b) < 0) != (b < 0) ? fmod{f}(a, b) + b "
            ": fmod{f}(a, b)",
            "The remainder with the divisor's sign, as in torch and Python.",
        ),
        cost=33,
    ),
    "modulo_int": Primitive(
        "modulo({0}, {1})",
        helper=_function(
            "modulo",
            "a b",
            "a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b",
            "The remainder with the divisor's sign, as in torch and Python.",
        ),
        cost=23,
    ),
    "floor_divide": Primitive(
        "floor_divide({0}, {1})",
        helper=_function(
            "floor_divide",
            "a b",
            "a % b != 0 && (a % b < 0) != (b < 0) ? a / b - 1 : a / b",
            "The quotient rounded down, as in torch and Python; C rounds towards zero.",
        ),
        cost=23,
    ),
    "fma": Primitive("fma{f}({0}, {1}, {2})"),
    "where": Primitive("{0} ? {1} : {2}", TERNARY),
    "lt": Primitive("{0} < {1}", COMPARISON),
    "le": Primitive("{0} <= {1}", COMPARISON),
    "gt": Primitive("{0} > {1}", COMPARISON),
    "ge": Primitive("{0} >= {1}", COMPARISON),
    "eq": Primitive("{0} == {1}", COMPARISON),
    "ne": Primitive("{0} != {1}", COMPARISON),
    "and": Primitive("{0} && {1}", TERNARY),
    "or": Primitive("{0} || {1}", TERNARY),
    "not": Primitive("!{0}", PRODUCT),
    "bit_and": Primitive("({0} & {1})"),
    "bit_or": Primitive("({0} | {1})"),
    "bit_xor": Primitive("({0} ^ {1})"),
    "bit_not": Primitive("~{0}", PRODUCT),
    "shift_left": Primitive("({0} << {1})"),
    "shift_right": Primitive("({0} >> {1})"),
    "cast": Primitive("static_cast<{T}>({0})"),
    # C computes with narrow integers in int; torch wraps around after every operation.
    "to_uint8": Primitive("static_cast<unsigned char>({0})"),
    "to_int8": Primitive("static_cast<signed char>({0})"),
    "to_int16": Primitive("static_cast<short>({0})"),
    # Comparisons with NaN are false: the forms below hand a NaN through, as torch does.
    "relu": Primitive(
        "relu({0})", helper=_function("relu", "x", "x < 0 ? 0 : x", "A NaN stays a NaN."), cost=2
    ),
    "maximum": Primitive(
        "maximum({0}, {1})",
        helper=_function(
            "maximum", "a b", "a > b || a != a ? a : b", "The larger; a NaN wins, as in torch."
        ),
        cost=3,
    ),
    "minimum": Primitive(
        "minimum({0}, {1})",
        helper=_function(
            "minimum", "a b", "a < b || a != a ? a : b", "The smaller; a NaN wins, as in torch."
        ),
        cost=3,
    ),
    "clamp_min": Primitive(
        "clamp_min({0}, {1})",
        helper=_function("clamp_min", "x low", "x < low ? low : x", "A NaN stays a NaN."),
        cost=2,
    ),
    "clamp_max": Primitive(
        "clamp_max({0}, {1})",
        helper=_function("clamp_max", "x high", "x > high ? high : x", "A NaN stays a NaN."),
        cost=2,
    ),
    "sigmoid": Primitive(
        "sigmoid({0})",
        helper=_function("sigmoid", "x", "1 / (1 + exp{f}(-x))", "Logistic function."),
        cost=16,
    ),
    "silu": Primitive(
        "silu({0})",
        helper=_function("silu", "x", "x / (1 + exp{f}(-x))", "x times the logistic function."),
        cost=17,
    ),
    "gelu": Primitive(
        "gelu({0})",
        helper=_function(
            "gelu",
            "x",
            "0.5{f} * x * (1 + erf{f}(x * 0.70710678118654752{f}))",
            "x times the normal distribution function, by erf as in torch's default.",
        ),
        cost=24,
    ),
    "gelu_tanh": Primitive(
        "gelu_tanh({0})",
        helper=_function(
            "gelu_tanh",
            "x",
            "0.5{f} * x * (1 + tanh{f}(0.79788456080286536{f} * (x + 0.044715{f} * x * x * x)))",
            "GELU in its tanh form: sqrt(2 / pi) = 0.7978...",
        ),
        cost=26,
    ),
    "softplus": Primitive(
        "softplus({0}, {1}, {2})",
        helper=_function(
            "softplus",
            "x beta threshold",
            "x * beta > threshold ? x : log1p{f}(exp{f}(x * beta)) / beta",
            "log(1 + exp(beta x)) / beta, and x itself where exp would only lose digits.",
        ),
        cost=30,
    ),
    "mish": Primitive(
        "mish({0})",
        helper=_function("mish", "x", "x * tanh{f}(log1p{f}(exp{f}(x)))", "x tanh(softplus(x))."),
        cost=45,
    ),
    "elu": Primitive(
        "elu({0}, {1}, {2}, {3})",
        helper=_function(
            "elu",
            "x negative scale input_scale",
            "x > 0 ? x * scale : expm1{f}(x * input_scale) * negative",
            "ELU, SELU and CELU: expm1 keeps the digits near zero.",
        ),
        cost=18,
    ),
    "leaky_relu": Primitive(
        "leaky_relu({0}, {1})",
        helper=_function("leaky_relu", "x slope", "x > 0 ? x : x * slope", "Leaky ReLU."),
        cost=2,
    ),
    "hardsigmoid": Primitive(
        "hardsigmoid({0})",
        helper=_function(
            "hardsigmoid", "x", "x < -3 ? 0 : x > 3 ? 1 : (x + 3) / 6", "Piecewise logistic."
        ),
        cost=5,
    ),
    "hardswish": Primitive(
        "hardswish({0})",
        helper=_function(
            "hardswish",
            "x",
            "x * (x < -3 ? 0 : x > 3 ? 6 : x + 3) / 6",
            "x hardsigmoid(x): NaN at -infinity, as in torch.",
        ),
        cost=6,
    ),
    "sign": Primitive(
        "sign({0})",
        helper=_function("sign", "x", "{T}(x > 0) - {T}(x < 0)", "-1, 0 or 1."),
        cost=3,
    ),
}
