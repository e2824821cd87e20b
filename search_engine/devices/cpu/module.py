"""A compiled module, inspected before it is loaded: loading must run none of its code."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from search_engine.verdict import Finding

_RUNTIME = frozenset({
    "simt_thread_index", "simt_block_index", "simt_block_size", "simt_grid_size", "simt_lane",
    "simt_hooked", "simt_dynamic_shared", "simt_barrier", "simt_barrier_reduce",
    "simt_grid_barrier", "simt_fence", "simt_atomic", "simt_assert", "simt_trap",
    "simt_exchange", "simt_absent", "simt_converged", "simt_clock", "simt_access", "simt_misuse",
    "simt_shared_address", "simt_shared_pointer", "simt_is_shared", "simt_copy_async",
    "simt_copy_commit", "simt_copy_wait", "simt_mma", "simt_ldmatrix", "simt_stmatrix",
})  # fmt: skip
_KINDS_OF_HOOK = "read", "write", "unaligned_read", "unaligned_write", "read_write"
_HOOKS = frozenset({
    *(f"__tsan_{kind}{size}" for kind in _KINDS_OF_HOOK for size in (1, 2, 4, 8, 16)),
    "__tsan_init", "__tsan_func_entry", "__tsan_func_exit",
    "__tsan_read_range", "__tsan_write_range",
    "__tsan_memcpy", "__tsan_memmove", "__tsan_memset",
    "__wrap_memcpy", "__wrap_memmove", "__wrap_memset", "__wrap_memcmp",
})  # fmt: skip
_MATH = """
acos acosh asin asinh atan atanh cbrt ceil cos cosh erf erfc exp exp2 exp10 expm1 fabs floor lgamma
log log10 log1p log2 logb nearbyint rint round sin sinh sqrt tan tanh tgamma trunc j0 j1 y0 y1
atan2 copysign fdim fmod hypot nextafter remainder fmax fmin pow fma ldexp scalbn frexp modf sincos
ilogb lrint lround llrint llround
"""
_LIBRARY = frozenset(
    {name + suffix for name in _MATH.split() for suffix in ("", "f")}
    | {"abs", "labs", "llabs", "memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
)
ALLOWED_UNDEFINED = _RUNTIME | _HOOKS | _LIBRARY

_INITIALISERS = {
    "DT_INIT", "DT_FINI", "DT_FINI_ARRAY", "DT_PREINIT_ARRAY", "DT_AUXILIARY", "DT_FILTER",
    "DT_AUDIT", "DT_DEPAUDIT",
}  # fmt: skip


@frozen
class Variable:
    """A writable variable of a module: [begin, end) from the load address."""

    name: str
    begin: int
    end: int
    shared: bool
    guard: bool = False  # the compiler's own note that a variable is initialised


@frozen
class Parameter:
    """A kernel's parameter as compiled: ``kind`` is one of "pointer", "int", "uint",
    "float", "half", "bfloat16", "bool", "struct"; ``size`` in bytes.
    """

    kind: str
    size: int
    const: bool


@frozen
class Module:
    """What the device knows of a compiled file."""

    path: Path
    span: int  # bytes of address space
    variables: tuple[Variable, ...]
    signatures: dict[str, tuple[Parameter, ...]]

    @property
    def static_shared(self) -> int:
        """Bytes of static shared memory of all kernels of the file."""
        return sum(v.end - v.begin for v in self.variables if v.shared)


def inspect(path: Path, *, hooked: bool) -> tuple[Module | None, list[Finding]]:
    """The module's facts, or the findings for which it must not be loaded."""
    elf = ELFFile(io.BytesIO(path.read_bytes()))
    findings = [*_dynamic(elf, hooked), *_relocations(elf), *_undefined(elf), *_segments(elf)]
    if findings:
        return None, findings
    span = max(
        (s["p_vaddr"] + s["p_memsz"] for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"),
        default=0,
    )
    return Module(path, span, tuple(_variables(elf)), _signatures(elf)), []


def _dynamic(elf: Any, hooked: bool) -> Iterator[Finding]:
    dynamic = elf.get_section_by_name(".dynamic")
    if dynamic is None:
        yield Finding("static-initialiser", "the compiled kernel has no dynamic section")
        return
    message = "the kernel has code that would run when it is loaded (a constructor)"
    for tag in dynamic.iter_tags():
        name = tag.entry.d_tag
        if name == "DT_NEEDED":
            yield Finding("undefined-symbol", f"the kernel needs the library {tag.needed}")
        elif name == "DT_TEXTREL":
            yield Finding("static-initialiser", "the kernel's code would be changed on loading")
        elif name in _INITIALISERS:
            yield Finding("static-initialiser", message)
        elif name == "DT_INIT_ARRAYSZ" and not (hooked and _only_the_hooks(elf, tag.entry.d_val)):
            # The instrumentation has one constructor of its own, which calls an empty function.
            yield Finding("static-initialiser", message)


def _only_the_hooks(elf: Any, size: int) -> bool:
    return size == elf.elfclass // 8 and any(
        symbol.name.startswith(("_sub_I_00099_0", "tsan.module_ctor", "sancov.module_ctor"))
        for symbol in _symbols(elf)
    )


def _relocations(elf: Any) -> Iterator[Finding]:
    irelative = {"EM_X86_64": 37, "EM_AARCH64": 1032}.get(elf["e_machine"])
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection):
            for relocation in section.iter_relocations():
                if relocation["r_info_type"] == irelative:
                    yield Finding(
                        "static-initialiser", "the kernel has a function that loading would call"
                    )
                    return


def _symbols(elf: Any) -> Iterator[Any]:
    for name in (".symtab", ".dynsym"):
        section = elf.get_section_by_name(name)
        if section is not None:
            yield from section.iter_symbols()
            return


def _undefined(elf: Any) -> Iterator[Finding]:
    table = elf.get_section_by_name(".dynsym")
    for symbol in table.iter_symbols() if table is not None else ():
        if symbol["st_info"]["type"] == "STT_LOOS":  # STT_GNU_IFUNC
            yield Finding("static-initialiser", "the kernel has a function that loading would call")
        undefined = symbol["st_shndx"] == "SHN_UNDEF" and symbol.name
        if undefined and symbol.name not in ALLOWED_UNDEFINED:
            yield Finding(
                "undefined-symbol", f"`{symbol.name}` is no function of CUDA's device library"
            )
    for symbol in _symbols(elf):
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name in _RUNTIME | _HOOKS:
            yield Finding("reserved-name", f"`{symbol.name}` is the cpu device's own")


def _segments(elf: Any) -> Iterator[Finding]:
    for segment in elf.iter_segments():
        flags = segment["p_flags"]
        if segment["p_type"] == "PT_LOAD" and flags & 1 and flags & 2:
            yield Finding("static-initialiser", "the kernel's code would be writable")


def _variables(elf: Any) -> Iterator[Variable]:
    """``__shared__`` is compiled as `static`: a local symbol in uninitialised memory."""
    for symbol in _symbols(elf):
        index, size = symbol["st_shndx"], symbol["st_size"]
        if symbol["st_info"]["type"] != "STT_OBJECT" or not size or not isinstance(index, int):
            continue
        section = elf.get_section(index)
        if not section["sh_flags"] & 1 or section.name.startswith((".data.rel.ro", ".got")):
            continue
        local = symbol.name.startswith("_ZZ") or symbol["st_info"]["bind"] == "STB_LOCAL"
        shared = local and section["sh_type"] == "SHT_NOBITS"
        begin = symbol["st_value"]
        # A shared array of a class like half has one in g++, though there is nothing to do.
        guard = symbol.name.startswith("_ZGV")
        yield Variable(symbol.name, begin, begin + size, shared and not guard, guard)


_KINDS = {
    "p": "pointer", "P": "pointer", "i": "int", "u": "uint", "f": "float", "h": "half",
    "e": "bfloat16", "b": "bool", "s": "struct",
}  # fmt: skip


def _signatures(elf: Any) -> dict[str, tuple[Parameter, ...]]:
    found = {}
    for symbol in _symbols(elf):
        name = symbol.name.removeprefix("simt_signature_")
        if name == symbol.name or not isinstance(symbol["st_shndx"], int):
            continue
        section = elf.get_section(symbol["st_shndx"])
        start = symbol["st_value"] - section["sh_addr"]
        text = section.data()[start : start + symbol["st_size"]].split(b".")[0].decode("ascii")
        found[name] = tuple(
            Parameter(_KINDS[text[i]], int(text[i + 1 : i + 4]), text[i] == "P")
            for i in range(0, len(text), 4)
        )
    return found
