"""Moving VEC neighbouring elements in as few accesses as the hardware has: at most 16 bytes each.

Halves are widened to float on load and rounded once on store.
"""

from __future__ import annotations

from search_engine.playbook.dtypes import compute_type, item_bytes, storage_type
from search_engine.playbook.expression import Load

_COMPONENTS = "xyzw"
# Vector types of CUDA by element type and width.
_VECTORS = {
    "float": {2: "float2", 4: "float4"},
    "double": {2: "double2"},
    "int": {2: "int2", 4: "int4"},
    "long long": {2: "longlong2"},
    "short": {2: "short2", 4: "short4"},
    "signed char": {2: "char2", 4: "char4"},
    "unsigned char": {2: "uchar2", 4: "uchar4"},
    "bool": {2: "uchar2", 4: "uchar4"},
}
_HALF = {
    "__half": ("__half2", "__half22float2", "__floats2half2_rn"),
    "__nv_bfloat16": ("__nv_bfloat162", "__bfloat1622float2", "__floats2bfloat162_rn"),
}
_HALF_WORDS = {2: "unsigned int", 4: "uint2", 8: "uint4"}


def widen(text: str, load: Load) -> str:
    """The stored element as the type it is computed in."""
    return {"float16": f"__half2float({text})", "bfloat16": f"__bfloat162float({text})"}.get(
        load.dtype, text
    )


def narrow(text: str, dtype: str) -> str:
    """The computed value as it is stored."""
    return {"float16": f"__float2half({text})", "bfloat16": f"__float2bfloat16({text})"}.get(
        dtype, text
    )


def _chunks(dtype: str, vec: int) -> tuple[str, int, int]:
    """(vector type, elements in one access, accesses) for VEC elements."""
    ctype = storage_type(dtype)
    if ctype in _HALF:
        width = min(vec, 8)
        return _HALF_WORDS[width], width, vec // width
    width = max(w for w in _VECTORS[ctype] if w <= vec)
    return _VECTORS[ctype][width], width, vec // width


def load_helper(dtype: str, vec: int, once: bool) -> str:
    """``load_pack(v, p)``: VEC elements from an aligned address into the compute type.

    ``once`` marks data that is read one time only, so that it does not push others out of L2.
    """
    ctype, real = storage_type(dtype), compute_type(dtype)
    vector, width, accesses = _chunks(dtype, vec)
    read = "__ldcs({0})" if once else "*{0}"
    name = "load_pack_once" if once else "load_pack"
    size = width * item_bytes(dtype)
    note = f"// {vec} x {ctype} by {size}-byte accesses" + (", read once" if once else "")
    lines = [
        f"{note}.",
        f"__device__ __forceinline__ void {name}({real} (&v)[{vec}], const {ctype}* p) {{",
    ]
    for part in range(accesses):
        raw = "raw" if accesses == 1 else f"raw{part}"
        source = f"reinterpret_cast<const {vector}*>(p)" + (f" + {part}" if part else "")
        source = f"({source})" if part and not once else source
        lines.append(f"  const {vector} {raw} = {read.format(source)};")
    for part in range(accesses):
        raw = "raw" if accesses == 1 else f"raw{part}"
        base = part * width
        if ctype in _HALF:
            pair_type, to_floats, _ = _HALF[ctype]
            lines += [
                f"  const {pair_type}* pair = reinterpret_cast<const {pair_type}*>(&{raw});",
                "#pragma unroll",
                f"  for (int k = 0; k < {width // 2}; ++k) {{",
                f"    const float2 two = {to_floats}(pair[k]);",
                "    v[2 * k] = two.x;",
                "    v[2 * k + 1] = two.y;",
                "  }",
            ]
        else:
            lines += [f"  v[{base + k}] = {raw}.{_COMPONENTS[k]};" for k in range(width)]
    return "\n".join([*lines, "}"])


def store_helper(dtype: str, vec: int, once: bool) -> str:
    """``store_pack(p, v)``: the counterpart of ``load_pack``."""
    ctype, real = storage_type(dtype), compute_type(dtype)
    vector, width, accesses = _chunks(dtype, vec)
    name = "store_pack_once" if once else "store_pack"
    size = width * item_bytes(dtype)
    note = f"// {vec} x {ctype} by {size}-byte accesses" + (", not read again" if once else "")
    lines = [
        f"{note}.",
        f"__device__ __forceinline__ void {name}({ctype}* p, const {real} (&v)[{vec}]) {{",
    ]
    for part in range(accesses):
        target = f"reinterpret_cast<{vector}*>(p)" + (f" + {part}" if part else "")
        if ctype in _HALF:
            pair_type, _, to_pair = _HALF[ctype]
            lines += [
                f"  {vector} raw;",
                f"  {pair_type}* pair = reinterpret_cast<{pair_type}*>(&raw);",
                "#pragma unroll",
                f"  for (int k = 0; k < {width // 2}; ++k) "
                f"pair[k] = {to_pair}(v[2 * k], v[2 * k + 1]);",
            ]
            value = "raw"
        else:
            items = ", ".join(f"v[{part * width + k}]" for k in range(width))
            value = f"make_{vector}({items})"
        target = f"({target})" if part and not once else target
        lines.append(f"  __stcs({target}, {value});" if once else f"  *{target} = {value};")
    return "\n".join([*lines, "}"])
