"""Programs and plans, executed exactly: every value over the whole iteration space, in float64.

The meaning of the IR, without any code generation: what this gives and torch does not is a
fault of the analyser. Kernels are held against torch themselves.
"""

from __future__ import annotations

import math

import torch

from search_engine.playbook.expression import (
    Apply,
    Bound,
    Constant,
    Expression,
    Inside,
    Load,
    Position,
    Result,
    Scan,
    Statistic,
)
from search_engine.playbook.program import Program

DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool",
    )
}  # fmt: skip


def interpret(program: Program, tensors: dict[str, torch.Tensor], outputs) -> dict:
    """The outputs of one program; ``outputs`` are their specs (name, dtype, shape, stride)."""
    run = _Run(program, tensors)
    specs = {spec.name: spec for spec in outputs}
    found = {}
    for store in program.stores:
        spec = specs[store.tensor]
        size = 1 + sum((n - 1) * s for n, s in zip(spec.shape, spec.stride, strict=True))
        memory = torch.zeros(size, dtype=DTYPES[store.dtype])
        at = run.affine(store.strides, 0)
        value = run.value(store.value)
        at, value = torch.broadcast_tensors(at, value)
        if not value.dtype.is_floating_point or memory.dtype.is_floating_point:
            value = value.to(memory.dtype)
        memory[at.reshape(-1)] = value.reshape(-1)
        found[store.tensor] = memory.as_strided(spec.shape, spec.stride)
    return found


def interpret_plan(plan, task, tensors: dict[str, torch.Tensor]) -> dict:
    """The task's outputs by a plan's stages, one after the other."""
    values = dict(tensors)
    for stage in plan.stages:
        values |= interpret(stage.program, values, [*stage.scratch, *task.outputs])
    return {spec.name: values[spec.name] for spec in task.outputs}


class _Run:
    def __init__(self, program: Program, tensors: dict[str, torch.Tensor]) -> None:
        self.program = program
        self.tensors = tensors
        rank = len(program.axes)
        self.axis = {}
        for position, axis in enumerate(program.axes):
            shape = [axis.size if p == position else 1 for p in range(rank)]
            self.axis[axis.name] = torch.arange(axis.size).reshape(shape)
        self.column_dims = list(range(len(program.rows), rank))
        self.whole = [axis.size for axis in program.axes]
        self.memo: dict[Expression, torch.Tensor] = {}
        self.statistics: dict[Statistic, dict[str, torch.Tensor]] = {}

    def affine(self, terms, constant: int) -> torch.Tensor:
        total = torch.full([1] * len(self.whole), constant)
        for axis, factor in terms:
            total = total + self.axis[axis] * factor
        return total

    def inside(self, bounds: tuple[Bound, ...]) -> torch.Tensor:
        holds = torch.ones([1] * len(self.whole), dtype=torch.bool)
        for bound in bounds:
            at = self.affine(bound.terms, bound.constant)
            holds = holds & (at >= 0) & (at < bound.size)
        return holds

    def value(self, node: Expression) -> torch.Tensor:
        if node not in self.memo:
            self.memo[node] = self._value(node)
        return self.memo[node]

    def _value(self, node: Expression) -> torch.Tensor:
        if isinstance(node, Constant):
            return _typed(torch.tensor(node.value, dtype=_work(node.dtype)), node.dtype)
        if isinstance(node, Load):
            return self._load(node)
        if isinstance(node, Position):
            return self.affine(node.bounds[0].terms, node.bounds[0].constant)
        if isinstance(node, Inside):
            return self.inside(node.bounds)
        if isinstance(node, Result):
            if node.statistic not in self.statistics:
                self.statistics[node.statistic] = self._statistic(node.statistic)
            return self.statistics[node.statistic][node.part]
        if isinstance(node, Apply):
            args = [self.value(arg) for arg in node.args]
            return _typed(OPERATORS[node.op](*args), node.dtype)
        return self._scan(node)

    def _load(self, load: Load) -> torch.Tensor:
        tensor = self.tensors[load.tensor]
        reach = sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        memory = tensor.as_strided((1 + reach,), (1,), tensor.storage_offset())
        at = self.affine(load.strides, load.offset)
        if load.bounds:
            inside = self.inside(load.bounds)
            at, inside = torch.broadcast_tensors(at, inside)
            value = memory[torch.where(inside, at, 0)]
            value = torch.where(inside, value, torch.zeros_like(value))
        else:
            value = memory[at]
        return value.to(_work(load.dtype))

    def _statistic(self, s: Statistic) -> dict[str, torch.Tensor]:
        body = self.value(s.body).expand(self.whole)
        flat = body.flatten(self.column_dims[0])

        def wide(result: torch.Tensor) -> torch.Tensor:
            return result.reshape([*result.shape, *([1] * len(self.column_dims))])

        if s.kind == "moments":
            mean = flat.mean(-1)
            return {"mean": wide(mean), "m2": wide(((flat - mean[..., None]) ** 2).sum(-1))}
        if s.kind == "softmax":
            top = flat.amax(-1)
            total = (flat - top[..., None]).exp().sum(-1)
            return {"max": wide(top), "sum": wide(total)}
        if s.kind in ("argmax", "argmin"):
            value = flat.amax(-1) if s.kind == "argmax" else flat.amin(-1)
            place = flat.argmax(-1) if s.kind == "argmax" else flat.argmin(-1)
            return {"value": wide(value), "index": wide(place)}
        if s.kind == "any":
            return {"any": wide(flat.any(-1))}
        function = {"sum": torch.sum, "prod": torch.prod, "max": torch.amax, "min": torch.amin}
        return {s.kind: wide(function[s.kind](flat, -1))}

    def _scan(self, scan: Scan) -> torch.Tensor:
        kind = scan.statistic.kind
        body = self.value(scan.statistic.body).expand(self.whole)
        flat = body.flatten(self.column_dims[0])
        if scan.reverse:
            flat = flat.flip(-1)
        if kind in ("sum", "prod"):
            result = {"sum": torch.cumsum, "prod": torch.cumprod}[kind](flat, -1)
        elif kind == "softmax":
            result = torch.cummax(flat, -1)[0]
            if scan.part == "sum":
                result = (torch.logcumsumexp(flat, -1) - result).exp()
        else:
            function = torch.cummax if kind.endswith("max") else torch.cummin
            result = function(flat, -1)[int(scan.part == "index")]
        if scan.exclusive:
            first = torch.full_like(result[..., :1], {"sum": 0, "prod": 1}.get(kind, 0))
            result = torch.cat([first, result[..., :-1]], -1)
        if scan.reverse:
            result = result.flip(-1)
        return result.reshape(self.whole)


def _work(dtype: str) -> torch.dtype:
    if DTYPES[dtype].is_floating_point:
        return torch.float64
    return torch.bool if dtype == "bool" else torch.int64


def _typed(value: torch.Tensor, dtype: str) -> torch.Tensor:
    work = _work(dtype)
    if work is torch.int64 and value.dtype.is_floating_point:
        value = value.trunc()
    value = value.to(work)
    if work is torch.int64 and dtype != "int64":
        value = value.to(DTYPES[dtype]).to(torch.int64)  # it wraps around
    return value


def _float(value: torch.Tensor) -> torch.Tensor:
    return value if value.dtype.is_floating_point else value.double()


def _elu(x, negative, scale, input_scale):
    return torch.where(x > 0, x * scale, torch.expm1(x * input_scale) * negative)


def _gelu_tanh(x):
    return torch.nn.functional.gelu(x, approximate="tanh")


F = torch.nn.functional
OPERATORS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: _float(a) / _float(b),
    "neg": lambda a: -a,
    "abs": torch.abs,
    "reciprocal": lambda a: 1 / _float(a),
    **{
        name: getattr(torch, name)
        for name in (
            "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos",
            "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc", "floor", "ceil",
            "trunc", "round", "pow", "atan2", "fmod", "where", "lt", "le", "gt", "ge", "eq", "ne",
            "relu", "maximum", "minimum", "sigmoid", "sign", "erfinv", "asinh", "acosh", "atanh",
            "lgamma", "hypot", "copysign",
        )
    },
    "abs_int": torch.abs,
    "bit_and": torch.bitwise_and,
    "bit_or": torch.bitwise_or,
    "bit_xor": torch.bitwise_xor,
    "bit_not": torch.bitwise_not,
    "shift_left": torch.bitwise_left_shift,
    "shift_right": torch.bitwise_right_shift,
    **dict.fromkeys(("to_uint8", "to_int8", "to_int16"), lambda a: a),
    "fmod_int": torch.fmod,
    "modulo": torch.remainder,
    "modulo_int": torch.remainder,
    "floor_divide": torch.floor_divide,
    "fma": lambda a, b, c: a * b + c,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    "cast": lambda a: a,
    "clamp_min": torch.maximum,
    "clamp_max": torch.minimum,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "softplus": lambda x, beta, threshold: torch.where(
        x * beta > threshold, x, torch.log1p(torch.exp(x * beta)) / beta
    ),
    "elu": _elu,
    "leaky_relu": lambda x, slope: torch.where(x > 0, x, x * slope),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}  # fmt: skip


def exact_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative error to the output's norm; infinite where special values or integers differ."""
    if not expected.dtype.is_floating_point:
        return 0.0 if torch.equal(out.to(expected.dtype), expected) else math.inf
    out, expected = out.double(), expected.double()
    special = ~torch.isfinite(expected)
    same = torch.equal(special, ~torch.isfinite(out)) and torch.allclose(
        out[special], expected[special], equal_nan=True
    )
    if not same:
        return math.inf
    out, expected = out[~special], expected[~special]
    norm = torch.linalg.vector_norm(expected).clamp_min(1e-30)
    return float(torch.linalg.vector_norm(out - expected) / norm)
