"""Row statistics in CUDA-C: one small struct for each kind, how it takes a pack, how two merge.

Every kind is written the same way, so that kernels need not know which one they hold:
``definition`` gives the struct, ``merge`` and ``add``; ``team_merge`` and ``block_merge`` are
derived from the fields. Merging follows a fixed order: every thread gets the same bits, every
run too.

Sums of floats carry what rounding takes from them (Knuth's two-sum), so that their error does
not grow with the row; "short_sum" does not, for threads that add up a few numbers each. Moments
merge by Chan, Golub and LeVeque (1983), so the mean is subtracted before squaring however large
it is. The softmax sum is Milakov and Gimelshein's online form (2018). Of equal extremes the
first wins ("argmax"), in running extremes the last ("lastmax"), as in torch on the CPU; a NaN
beats all.
"""

from __future__ import annotations

import re

from attrs import frozen

from search_engine.playbook.dtypes import arithmetic, compute_type, is_float
from search_engine.playbook.expression import Statistic


@frozen
class Accumulator:
    """The C of one statistic kind in one type.

    ``fields`` are (name, C type). ``merge`` is the body with ``a`` and ``b``; ``add`` that
    with ``acc`` and the pack ``v[VEC]``, and ``first``, the column of ``v[0]``, where
    ``indexed``. ``results`` give each part of the statistic from the struct ``{0}``.
    ``single`` is the initialiser of the element ``{0}`` at column ``{1}`` alone.
    ``symmetric``: merge(a, b) has the bits of merge(b, a).
    """

    type: str
    value: str  # C type of an element
    fields: tuple[tuple[str, str], ...]
    identity: str  # braced initialiser
    comment: str
    merge: str
    add: str
    results: dict[str, str]
    single: str = "{0}"
    indexed: bool = False
    symmetric: bool = True

    @property
    def scratch(self) -> tuple[str, int]:
        """(dtype, numbers) of the struct in scratch memory."""
        kinds = [kind for _, kind in self.fields]
        if len(set(kinds)) == 1:
            return _DTYPES[kinds[0]], len(kinds)
        wide = any(kind in ("double", "long long") for kind in kinds)
        return ("int64" if wide else "int32"), len(kinds)


_DTYPES = {"float": "float32", "double": "float64", "int": "int32", "long long": "int64"}
_PREFIX = {"float": "", "double": "Double", "int": "Int", "long long": "Long"}
_LOWEST = {
    "float": "-INF", "double": "-INF64", "int": "-2147483647 - 1",
    "long long": "-9223372036854775807LL - 1",
}  # fmt: skip
_HIGHEST = {
    "float": "INF", "double": "INF64", "int": "2147483647", "long long": "9223372036854775807LL",
}  # fmt: skip


def accumulator(statistic: Statistic) -> Accumulator:
    """The accumulator of a statistic."""
    return of_kind(statistic.kind, statistic.dtype)


def of_kind(kind: str, dtype: str) -> Accumulator:
    """The accumulator of a kind that takes values of the dtype."""
    return _KINDS[kind](kind, dtype)


def sum_kind(count: int) -> str:
    """The kind for sums of which a thread adds up ``count`` numbers before threads merge.

    65,536 numbers near 1, 256 to a thread, are 3.7e-7 off when added plainly, all errors of
    one sign; the bound under the strictest policy is 1.9e-6, other things included.
    """
    return "short_sum" if count <= 64 else "sum"


def covered(kind: str) -> bool:
    """Whether rows can be reduced by this kind."""
    return kind in _KINDS


def _two_sum(t: str, a: str, b: str) -> str:
    """Lines that give ``sum`` and ``lost``: a + b and exactly what its rounding dropped."""
    return (
        f"  const {t} sum = {a} + {b};\n"
        f"  const {t} from_b = sum - {a};\n"
        f"  const {t} lost = ({a} - (sum - from_b)) + ({b} - from_b);\n"
    )


def _sum(kind: str, dtype: str) -> Accumulator:
    t = compute_type(dtype)
    name = f"{_PREFIX[t]}Sum"
    total = f"  {t} total = v[0];\n  for (int k = 1; k < VEC; ++k) total += v[k];\n"
    if kind == "short_sum" or not is_float(dtype):
        name = f"{_PREFIX[t]}Total" if is_float(dtype) else name
        return Accumulator(
            name, t, (("sum", t),), "{0}",
            "A sum of few numbers." if is_float(dtype) else "A sum of integers.",
            "  return {a.sum + b.sum};",
            f"{total}  acc.sum += total;",
            {"sum": "{0}.sum"},
        )  # fmt: skip
    return Accumulator(
        name, t, (("sum", t), ("rest", t)), "{0, 0}",
        "A sum, and the rest that rounding took from it (Knuth's two-sum).",
        _two_sum(t, "a.sum", "b.sum") + "  return {sum, a.rest + b.rest + lost};",
        f"{total}  acc = merge(acc, {name}{{total, 0}});",
        # An infinite sum has no rest.
        {"sum": "({0}.sum - {0}.sum == 0 ? {0}.sum + {0}.rest : {0}.sum)"},
        single="{0}, 0",
    )  # fmt: skip


def _prod(kind: str, dtype: str) -> Accumulator:
    t = compute_type(dtype)
    return Accumulator(
        f"{_PREFIX[t]}Product", t, (("prod", t),), "{1}", "A product.",
        "  return {a.prod * b.prod};",
        f"  {t} total = v[0];\n  for (int k = 1; k < VEC; ++k) total *= v[k];\n"
        "  acc.prod *= total;",
        {"prod": "{0}.prod"},
    )  # fmt: skip


def _extreme(kind: str, dtype: str) -> Accumulator:
    t = compute_type(dtype)
    name = f"{_PREFIX[t]}{kind.capitalize()}"
    better = f"a.{kind} {'>' if kind == 'max' else '<'} b.{kind}"
    comment = "The extreme value."
    if is_float(dtype):
        better += f" || a.{kind} != a.{kind}"
        comment = "The extreme value; a NaN wins."
    return Accumulator(
        name, t, ((kind, t),), f"{{{(_LOWEST if kind == 'max' else _HIGHEST)[t]}}}", comment,
        f"  return {better} ? a : b;",
        f"  for (int k = 0; k < VEC; ++k) acc = merge(acc, {name}{{v[k]}});",
        {kind: f"{{0}}.{kind}"},
    )  # fmt: skip


def _arg_extreme(kind: str, dtype: str) -> Accumulator:
    t = compute_type(dtype)
    # An index as wide as the value leaves no gap in the struct.
    index = "long long" if t in ("double", "long long") else "int"
    first, extreme = kind.startswith("arg"), kind[-3:]
    name = f"{_PREFIX[t]}{'Arg' if first else 'Last'}{extreme.capitalize()}"
    sign, worst = (">", _LOWEST) if extreme == "max" else ("<", _HIGHEST)
    tie = f"return a.index {'<' if first else '>'} b.index ? a : b;"
    nowhere = _HIGHEST[index] if first else "-1"
    merge = f"  if (a.value == b.value) {tie}\n"
    order = "first" if first else "last"
    comment = f"The extreme value and where it stands; of equal ones the {order}."
    if is_float(dtype):
        comment += " A NaN wins."
        merge += (
            "  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;\n"
            f"  if (a_nan && b_nan) {tie}\n"
            f"  return a_nan || (!b_nan && a.value {sign} b.value) ? a : b;"
        )
    else:
        merge += f"  return a.value {sign} b.value ? a : b;"
    return Accumulator(
        name, t, (("value", t), ("index", index)), f"{{{worst[t]}, {nowhere}}}", comment,
        merge,
        f"  for (int k = 0; k < VEC; ++k) acc = merge(acc, {name}{{v[k], first + k}});",
        {"value": "{0}.value", "index": "{0}.index"},
        single="{0}, {1}",
        indexed=True,
    )  # fmt: skip


def _moments(kind: str, dtype: str) -> Accumulator:
    t = compute_type(dtype)
    name = f"{_PREFIX[t]}Moments"
    # Two ulp in the share of a merge move the mean by 2e-7 of the distance between the two.
    divide = "__fdividef(b.count, count)" if t == "float" else "b.count / count"
    return Accumulator(
        name, t, (("count", t), ("mean", t), ("m2", t)), "{0, 0, 0}",
        "Elements so far, their mean, and the sum of squares about it.",
        f"  const {t} count = a.count + b.count;\n"
        f"  const {t} share = count > 0 ? {divide} : 0;\n"
        f"  const {t} delta = b.mean - a.mean;\n"
        "  return {count, a.mean + delta * share, "
        "a.m2 + b.m2 + delta * delta * a.count * share};",
        "  // The pack's own moments first: one division for VEC elements.\n"
        f"  {t} mean = v[0];\n"
        "  for (int k = 1; k < VEC; ++k) mean += v[k];\n"
        "  mean /= VEC;\n"
        f"  {t} m2 = 0;\n"
        "  for (int k = 0; k < VEC; ++k) m2 += (v[k] - mean) * (v[k] - mean);\n"
        f"  acc = merge(acc, {name}{{VEC, mean, m2}});",
        {"mean": "{0}.mean", "m2": "{0}.m2"},
        single="1, {0}, 0",
        symmetric=False,
    )  # fmt: skip


def _softmax(kind: str, dtype: str) -> Accumulator:
    t, real = compute_type(dtype), arithmetic(dtype)
    f, inf = real.suffix, real.infinity
    return Accumulator(
        f"{_PREFIX[t]}Softmax", t, (("max", t), ("sum", t), ("rest", t)), f"{{-{inf}, 0, 0}}",
        "The largest value so far, the sum of exp(value - max), and what rounding took from it.",
        f"  const {t} top = a.max > b.max || a.max != a.max ? a.max : b.max;  // a NaN wins\n"
        "  // While all is -infinity there is nothing to rescale (and -inf + inf would be NaN).\n"
        f"  const {t} shift = top == -{inf} ? 0 : top;\n"
        f"  const {t} a_scale = exp{f}(a.max - shift), b_scale = exp{f}(b.max - shift);\n"
        f"  const {t} a_sum = a.sum * a_scale, b_sum = b.sum * b_scale;\n"
        + _two_sum(t, "a_sum", "b_sum")
        + "  return {top, sum, a.rest * a_scale + b.rest * b_scale + lost};",
        f"  {t} top = acc.max;\n"
        "  for (int k = 0; k < VEC; ++k) top = v[k] > top || v[k] != v[k] ? v[k] : top;\n"
        f"  const {t} shift = top == -{inf} ? 0 : top;\n"
        f"  {t} total = 0;\n"
        f"  for (int k = 0; k < VEC; ++k) total += exp{f}(v[k] - shift);\n"
        f"  const {t} scale = acc.max == top ? 1 : exp{f}(acc.max - shift);\n"
        f"  const {t} before = acc.sum * scale;\n"
        + _two_sum(t, "before", "total")
        + "  acc = {top, sum, acc.rest * scale + lost};",
        {"max": "{0}.max", "sum": "({0}.sum + {0}.rest)"},
        single="{0}, 1, 0",
        # Fused multiply-adds round a.rest * a_scale and b.rest * b_scale differently.
        symmetric=False,
    )  # fmt: skip


_KINDS = {
    "sum": _sum,
    "short_sum": _sum,
    "prod": _prod,
    "max": _extreme,
    "min": _extreme,
    "argmax": _arg_extreme,
    "argmin": _arg_extreme,
    "lastmax": _arg_extreme,
    "lastmin": _arg_extreme,
    "moments": _moments,
    "softmax": _softmax,
}


def definition(a: Accumulator, vec: int) -> list[str]:
    """The struct, ``merge`` and ``add`` (of packs of ``vec``), each one block of text."""
    fields = "".join(f"  {kind} {name};\n" for name, kind in a.fields)
    if len({kind for _, kind in a.fields}) == 1:
        fields = f"  {a.fields[0][1]} {', '.join(name for name, _ in a.fields)};\n"
    first = ", int first" if a.indexed else ""
    body = re.sub(r"(?m)^  for", "#pragma unroll\n  for", a.add)
    body = re.sub(r"\bVEC\b", str(vec), body)
    return [
        f"// {a.comment}\nstruct {a.type} {{\n{fields}}};",
        f"__device__ __forceinline__ {a.type} merge({a.type} a, {a.type} b) {{\n{a.merge}\n}}",
        f"__device__ __forceinline__ void add({a.type}& acc, const {a.value} (&v)[{vec}]{first}) "
        f"{{\n{body}\n}}",
    ]


def team_merge(a: Accumulator, lanes: int = 32) -> str:
    """``warp_merge(v)``: over groups of ``lanes`` lanes, the same bits in every lane."""
    shuffle = "__shfl_xor_sync" if a.symmetric else "__shfl_down_sync"
    team = "the warp" if lanes == 32 else f"{lanes} neighbouring lanes"
    width = "" if lanes == 32 else f", {lanes}"
    lines = [
        f"// Over {team}, in a fixed order; every lane gets the result.",
        f"__device__ __forceinline__ {a.type} warp_merge({a.type} v) {{",
        "#pragma unroll",
        f"  for (int offset = {lanes // 2}; offset > 0; offset /= 2) {{",
        f"    {a.type} other;",
        *(
            f"    other.{f} = {shuffle}(0xffffffffu, v.{f}, offset{width});"
            for f, _ in a.fields
        ),
        "    v = merge(v, other);",
        "  }",
    ]  # fmt: skip
    if not a.symmetric:
        lines += [f"  v.{f} = __shfl_sync(0xffffffffu, v.{f}, 0{width});" for f, _ in a.fields]
    return "\n".join([*lines, "  return v;", "}"])


def block_merge(a: Accumulator) -> str:
    """``block_merge(v, partial)``: over the block, the same bits in every thread."""
    shuffle = "__shfl_xor_sync" if a.symmetric else "__shfl_down_sync"
    lines = [
        "// Over the block: warps first, then every warp merges the warps' results.",
        f"__device__ __forceinline__ {a.type} block_merge({a.type} v, {a.type}* partial) {{",
        "  const int lane = threadIdx.x % 32;",
        "  v = warp_merge(v);",
        "  if (lane == 0) partial[threadIdx.x / 32] = v;",
        "  __syncthreads();",
        "  v = partial[lane % (THREADS / 32)];",
        "#pragma unroll",
        "  for (int offset = THREADS / 64; offset > 0; offset /= 2) {",
        f"    {a.type} other;",
        *(f"    other.{f} = {shuffle}(0xffffffffu, v.{f}, offset);" for f, _ in a.fields),
        "    v = merge(v, other);",
        "  }",
    ]
    if not a.symmetric:
        lines += [f"  v.{f} = __shfl_sync(0xffffffffu, v.{f}, 0);" for f, _ in a.fields]
    lines += ["  __syncthreads();  // partial may be used again", "  return v;", "}"]
    return "\n".join(lines)
