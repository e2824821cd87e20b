"""Tune lines with one value chosen: the macro defined, the line kept."""

from __future__ import annotations

from collections.abc import Mapping

from search_engine.contract.kernel import Kernel
from search_engine.contract.parse import parse
from search_engine.contract.printer import tune_line


def filled(source: str, values: Mapping[str, str] | None = None) -> str:
    """``source`` with every tune line's macro defined, by default as its first value.

    ``// tune: BLOCK = 128 | 256`` becomes ``#define BLOCK 128  // tune: BLOCK = 128``: the
    text compiles, launch lines still know ``BLOCK``, and no line number moves. A source
    without tune lines, or filled already, comes back unchanged.

    Raises ContractError where the contract's lines are malformed.
    """
    return fill(parse(source), values)


def fill(kernel: Kernel, values: Mapping[str, str] | None = None) -> str:
    """The same for a parsed kernel."""
    lines = kernel.source.split("\n")
    for tune in kernel.tunes:
        value = (values or {}).get(tune.name, tune.values[0])
        line = lines[tune.line - 1]
        code, comment = line.split("//", 1)[0], tune_line(tune.name, [value])
        if not code.strip().startswith("#"):
            lines[tune.line - 1] = f"{code}#define {tune.name} {value}  {comment}"
    return "\n".join(lines)
