"""Launch arguments against the compiled kernel's parameters, and their bytes. Free of torch."""

from __future__ import annotations

import struct

from attrs import frozen

from search_engine.contract.kernel import Number, Pointer, ResolvedLaunch
from search_engine.task import Scalar
from search_engine.verdict import Finding

POINTER_BYTES = 8

# struct's format of each scalar type that a parameter may have; sizes as on 64-bit Linux.
_FORMATS = {
    "bool": "?",
    "char": "b", "signed char": "b", "unsigned char": "B", "int8_t": "b", "uint8_t": "B",
    "short": "h", "unsigned short": "H", "int16_t": "h", "uint16_t": "H",
    "int": "i", "signed": "i", "signed int": "i", "int32_t": "i",
    "unsigned": "I", "unsigned int": "I", "uint32_t": "I", "uint": "I",
    "long": "q", "long int": "q", "long long": "q", "long long int": "q", "int64_t": "q",
    "ptrdiff_t": "q", "unsigned long": "Q", "unsigned long long": "Q", "uint64_t": "Q",
    "size_t": "Q", "float": "f", "double": "d", "half": "e", "__half": "e",
}  # fmt: skip
_FLOATING = frozenset("fde")


@frozen
class Parameter:
    """How one argument is passed: ``format`` is struct's ("Q" for a pointer)."""

    format: str
    size: int
    pointer: str | None  # the buffer's name, None for a number
    value: Scalar | None

    def pack(self, address: int) -> bytes:
        """The argument's bytes; ``address`` is the buffer's, ignored for a number."""
        value = address if self.pointer is not None else self.value
        if self.format in _FLOATING:
            assert value is not None
            value = float(value)
        return struct.pack("=" + self.format, value)


def parameters_of(
    launch: ResolvedLaunch, sizes: tuple[int, ...] | None, types: tuple[str, ...] | None
) -> tuple[tuple[Parameter, ...], list[Finding]]:
    """How each argument of ``launch`` is passed, and what speaks against it.

    ``sizes`` are the compiled kernel's, in bytes, and decide; ``types`` are those of the
    text, which tell an int from a float of the same size. Either may be unknown (None).
    """
    count = len(launch.arguments)
    if sizes is not None and len(sizes) != count:
        message = f"{launch.function} takes {len(sizes)} arguments, the launch line gives {count}"
        return (), [Finding("signature", message, launch.line)]
    if types is None or len(types) != count:
        types = ("?",) * count
    found: list[Parameter] = []
    findings: list[Finding] = []
    for position, argument in enumerate(launch.arguments):
        size = None if sizes is None else sizes[position]
        text = types[position].removeprefix("const ").strip()
        if isinstance(argument, Pointer):
            parameter = Parameter("Q", POINTER_BYTES, argument.name, None)
            problem = _pointer_problem(argument, size, text)
        else:
            parameter, problem = _number(argument, size, text)
        if problem:
            message = f"{launch.function}, parameter {position + 1}: {problem}"
            findings.append(Finding("signature", message, launch.line))
        else:
            found.append(parameter)
    return tuple(found), findings


def _pointer_problem(argument: Pointer, size: int | None, text: str) -> str | None:
    if (size is not None and size != POINTER_BYTES) or text in _FORMATS:
        was = f"of {size} bytes" if text == "?" else f"`{text}`"
        return f"`{argument.name}` is a tensor, the kernel takes a value {was} there"
    return None


def _number(argument: Number, size: int | None, text: str) -> tuple[Parameter, str | None]:
    value = argument.value
    form = _FORMATS.get(text)
    nothing = Parameter("q", 8, None, value)
    if "*" in text:
        return nothing, f"{value} is a number, the kernel takes a `{text}`"
    if form is None:
        shown = "cannot be told from the text" if text == "?" else f"`{text}` is not known"
        return nothing, f"its type {shown}: write a plain type such as int, long long or float"
    parameter = Parameter(form, struct.calcsize("=" + form), None, value)
    if size is not None and size != parameter.size:
        return nothing, f"`{text}` has {parameter.size} bytes, but the compiled kernel takes {size}"
    if isinstance(value, float) and form not in _FLOATING:
        return nothing, f"{value} is no integer, the kernel takes a `{text}`"
    try:
        parameter.pack(0)
    except (struct.error, OverflowError):
        return nothing, f"{value} does not fit a `{text}`"
    return parameter, None
