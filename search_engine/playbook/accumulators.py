"""One-pass statistics in CUDA-C: a small struct each, how a pack is added, how two merge.

Moments merge by Chan, Golub and LeVeque (1983), so the mean is subtracted before squaring
however large it is. The softmax sum is Milakov and Gimelshein's online form (2018).
Merging goes down the lanes in a fixed order: every thread gets the same bits, every run too.
"""

from __future__ import annotations

from attrs import frozen

from search_engine.playbook.dtypes import FLOAT, Arithmetic


@frozen
class Accumulator:
    """The C of one statistic kind; ``parts`` are the struct's fields that results name."""

    type: str
    fields: tuple[str, ...]
    identity: str  # braced initialiser
    comment: str
    merge: str  # body with a, b
    add: str  # body with acc, v[VEC]


def accumulator(kind: str, real: Arithmetic) -> Accumulator:
    """The accumulator of a statistic kind, in that arithmetic."""
    t, f, inf = real.type, real.suffix, real.infinity
    if kind == "sum":
        return Accumulator(
            "Sum", ("sum",), "{0}", "A plain sum.",
            "  return {a.sum + b.sum};",
            f"  {t} total = v[0];\n  for (int k = 1; k < VEC; ++k) total += v[k];\n"
            "  acc.sum += total;",
        )  # fmt: skip
    if kind in ("max", "min"):
        sign, choose = ("-", ">") if kind == "max" else ("", "<")
        pick = f"a.{kind} {choose} b.{kind} || a.{kind} != a.{kind} ? a.{kind} : b.{kind}"
        return Accumulator(
            kind.capitalize(), (kind,), f"{{{sign}{inf}}}", "The extreme value; a NaN wins.",
            f"  return {{{pick}}};",
            f"  for (int k = 0; k < VEC; ++k) acc = merge(acc, {kind.capitalize()}{{v[k]}});",
        )  # fmt: skip
    if kind == "moments":
        # Two ulp in the share of a merge move the mean by 2e-7 of the distance between the two.
        divide = "__fdividef(b.count, count)" if real is FLOAT else "b.count / count"
        return Accumulator(
            "Moments", ("count", "mean", "m2"), "{0, 0, 0}",
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
            "  acc = merge(acc, Moments{VEC, mean, m2});",
        )  # fmt: skip
    return Accumulator(
        "Softmax", ("max", "sum"), f"{{-{inf}, 0}}",
        "The largest value so far, and the sum of exp(value - max).",
        f"  const {t} top = fmax{f}(a.max, b.max);\n"
        "  // While all is -infinity there is nothing to rescale (and -inf + inf would be NaN).\n"
        f"  const {t} shift = top == -{inf} ? 0 : top;\n"
        f"  return {{top, a.sum * exp{f}(a.max - shift) + b.sum * exp{f}(b.max - shift)}};",
        f"  {t} top = acc.max;\n"
        f"  for (int k = 0; k < VEC; ++k) top = fmax{f}(top, v[k]);\n"
        f"  const {t} shift = top == -{inf} ? 0 : top;\n"
        f"  {t} sum = acc.max == top ? acc.sum : acc.sum * exp{f}(acc.max - shift);\n"
        f"  for (int k = 0; k < VEC; ++k) sum += exp{f}(v[k] - shift);\n"
        "  acc = {top, sum};",
    )  # fmt: skip


def definition(kind: str, real: Arithmetic, vec: int) -> list[str]:
    """The struct, ``merge`` and ``add`` (of packs of ``vec``), each one block of text."""
    a = accumulator(kind, real)
    unroll = "#pragma unroll\n  for"
    return [
        f"// {a.comment}\nstruct {a.type} {{\n  {real.type} {', '.join(a.fields)};\n}};",
        f"__device__ __forceinline__ {a.type} merge({a.type} a, {a.type} b) {{\n{a.merge}\n}}",
        f"__device__ __forceinline__ void add({a.type}& acc, const {real.type} (&v)[{vec}]) {{\n"
        + a.add.replace("VEC", str(vec)).replace("  for", unroll)
        + "\n}",
    ]


def team_merge(kind: str, real: Arithmetic) -> str:
    """``warp_merge(v)``: over a warp, the same bits in every lane."""
    a = accumulator(kind, real)
    lines = [
        "// Over the warp, in a fixed order; every lane gets the result.",
        f"__device__ __forceinline__ {a.type} warp_merge({a.type} v) {{",
        "#pragma unroll",
        "  for (int offset = 16; offset > 0; offset /= 2) {",
        f"    {a.type} other;",
        *(f"    other.{f} = __shfl_down_sync(0xffffffffu, v.{f}, offset);" for f in a.fields),
        "    v = merge(v, other);",
        "  }",
        *(f"  v.{f} = __shfl_sync(0xffffffffu, v.{f}, 0);" for f in a.fields),
        "  return v;",
        "}",
    ]
    return "\n".join(lines)


def block_merge(kind: str, real: Arithmetic) -> str:
    """``block_merge(v, partial)``: over the block, the same bits in every thread."""
    a = accumulator(kind, real)
    return (
        f"// Over the block: warps first, then every warp merges the warps' results.\n"
        f"__device__ __forceinline__ {a.type} block_merge({a.type} v, {a.type}* partial) {{\n"
        f"  const int lane = threadIdx.x % 32;\n"
        f"  v = warp_merge(v);\n"
        f"  if (lane == 0) partial[threadIdx.x / 32] = v;\n"
        f"  __syncthreads();\n"
        f"  v = warp_merge(lane < THREADS / 32 ? partial[lane] : {a.type}{a.identity});\n"
        f"  __syncthreads();  // partial may be used again\n"
        f"  return v;\n}}"
    )


def team_reduce(op: str, real: Arithmetic, lanes: int) -> str:
    """``warp_sum(v)`` or ``warp_max(v)``: over groups of ``lanes`` lanes, the result in all."""
    t = real.type
    merge = _combine(op, "v", "__shfl_xor_sync(0xffffffffu, v, offset)", t)
    return (
        f"// Over {lanes} neighbouring lanes; all of them get the result.\n"
        f"__device__ __forceinline__ {t} warp_{op}({t} v) {{\n"
        f"#pragma unroll\n  for (int offset = {lanes // 2}; offset > 0; offset /= 2) {{\n"
        f"    {merge}\n  }}\n  return v;\n}}"
    )


def block_reduce(op: str, real: Arithmetic) -> str:
    """``block_sum(v, partial)`` or ``block_max``: over the block, the result in every thread."""
    t = real.type
    neutral = {"sum": "0", "max": f"-{real.infinity}", "min": real.infinity}[op]
    return (
        f"// Over the block: warps first, then every warp reduces the warps' results.\n"
        f"__device__ __forceinline__ {t} block_{op}({t} v, {t}* partial) {{\n"
        f"  const int lane = threadIdx.x % 32;\n"
        f"  v = warp_{op}(v);\n"
        f"  if (lane == 0) partial[threadIdx.x / 32] = v;\n"
        f"  __syncthreads();\n"
        f"  v = warp_{op}(lane < THREADS / 32 ? partial[lane] : {neutral});\n"
        f"  __syncthreads();  // partial may be used again\n"
        f"  return v;\n}}"
    )


def _combine(op: str, into: str, other: str, t: str) -> str:
    if op == "sum":
        return f"{into} += {other};"
    sign = ">" if op == "max" else "<"
    return (
        f"const {t} other = {other};\n"
        f"    if (other {sign} {into} || other != other) {into} = other;  // a NaN wins"
    )


def fold(op: str, into: str, value: str) -> str:
    """A statement that takes one value into a running sum or extreme."""
    if op == "sum":
        return f"{into} += {value};"
    sign = ">" if op == "max" else "<"
    return f"if ({value} {sign} {into} || {value} != {value}) {into} = {value};"
