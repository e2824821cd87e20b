"""NVRTC's log as findings with line and column. Free of torch."""

from __future__ import annotations

import re

from search_engine.devices.cuda.options import FILE_NAME
from search_engine.verdict import Finding

# kernel.cu(2): error: identifier "y" is undefined
_DIAGNOSTIC = re.compile(
    r"^(?P<file>[^\n(]+)\((?P<line>\d+)\): "
    r"(?P<severity>(?:catastrophic )?error|warning|remark|note)[^:]*: (?P<message>.*)$"
)
_CARET = re.compile(r"^\s*\^\s*$")
_UNDEFINED = re.compile(r'^identifier "(?P<name>\w+)" is undefined$')
_NO_FILE = re.compile(r'^cannot open source file "(?P<name>[^"]+)"')
# NVRTC has no C library: what sources take from it without thinking has another name there.
_INSTEAD = {
    **dict.fromkeys(("INFINITY", "NAN"), "CUDART_INF_F, CUDART_NAN_F of <math_constants.h>"),
    **dict.fromkeys(
        ("FLT_MAX", "FLT_MIN", "FLT_EPSILON", "DBL_MAX", "INT_MAX", "INT_MIN", "UINT_MAX"),
        "cuda::std::numeric_limits of <cuda/std/limits>, or the literal",
    ),
    **dict.fromkeys(("M_PI", "M_SQRT2", "M_SQRT1_2", "M_LN2"), "the literal"),
    **dict.fromkeys(
        ("uint8_t", "uint16_t", "uint32_t", "uint64_t", "int8_t", "int16_t", "int32_t", "int64_t"),
        "unsigned int, long long and so on",
    ),
}
_INDENT = 2  # NVRTC shows the source line two columns to the right


def findings_of(log: str) -> tuple[Finding, ...]:
    """The errors of a log, in order; at least one. Warnings and notes are left out.

    An error inside a header keeps the header's name in its message and has no line: lines
    are the kernel's own.
    """
    found: list[Finding] = []
    lines = log.splitlines()
    for index, text in enumerate(lines):
        match = _DIAGNOSTIC.match(text)
        if match is None or "error" not in match["severity"]:
            continue
        message = _advised(match["message"])
        if match["file"] != FILE_NAME:
            header = match["file"].rsplit("/include/", 1)[-1]
            found.append(Finding("compile", f"{message} (in <{header}>, line {match['line']})"))
            continue
        found.append(
            Finding("compile", message, int(match["line"]), _column(lines[index + 1 : index + 4]))
        )
    if not found:
        told = next((line.strip() for line in lines if line.strip()), "NVRTC gave no reason")
        found.append(Finding("compile", told))
    return tuple(found)


def _column(following: list[str]) -> int | None:
    for text in following:
        if _CARET.match(text):
            return max(text.index("^") - _INDENT + 1, 1)
        if _DIAGNOSTIC.match(text):
            return None
    return None


def _advised(message: str) -> str:
    undefined, missing = _UNDEFINED.match(message), _NO_FILE.match(message)
    if undefined is not None and undefined["name"] in _INSTEAD:
        return f"{message}: NVRTC has no C library, write {_INSTEAD[undefined['name']]}"
    if missing is not None:
        return f"{message}: CUDA's own headers are all there is"
    return message
