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
        message = match["message"]
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
