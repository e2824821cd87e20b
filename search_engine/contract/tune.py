"""Tune lines: which are open, the configurations that they span, and one of them filled in."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import TypeAlias

from search_engine.contract.kernel import Kernel, Tune
from search_engine.contract.parse import parse
from search_engine.contract.printer import tune_line

# One value for each open tune line, by the macro's name, as written.
Values: TypeAlias = Mapping[str, str]


def filled(source: str, values: Values | None = None) -> str:
    """``source`` with every tune line's macro defined, by default as its first value.

    ``// tune: BLOCK = 128 | 256`` becomes ``#define BLOCK 128  // tune: BLOCK = 128``: the
    text compiles, launch lines still know ``BLOCK``, and no line number moves. A source
    without tune lines, or filled already, comes back unchanged.

    Raises ContractError where the contract's lines are malformed.
    """
    return fill(parse(source), values)


def fill(kernel: Kernel, values: Values | None = None) -> str:
    """The same for a parsed kernel."""
    lines = kernel.source.split("\n")
    for tune in kernel.tunes:
        value = (values or {}).get(tune.name, tune.values[0])
        line = lines[tune.line - 1]
        code, comment = line.split("//", 1)[0], tune_line(tune.name, [value])
        if not code.strip().startswith("#"):
            lines[tune.line - 1] = f"{code}#define {tune.name} {value}  {comment}"
    return "\n".join(lines)


def open_tunes(kernel: Kernel) -> dict[str, tuple[str, ...]]:
    """The distinct values of each tune line that leaves a choice, by the macro's name."""
    lines = kernel.source.split("\n")
    found = {}
    for tune in kernel.tunes:
        values = tuple(dict.fromkeys(tune.values))
        if len(values) > 1 and not _defined(tune, lines):
            found[tune.name] = values
    return found


def _defined(tune: Tune, lines: list[str]) -> bool:
    return lines[tune.line - 1].split("//", 1)[0].strip().startswith("#")


def configurations(tunes: Mapping[str, tuple[str, ...]], most: int) -> list[dict[str, str]]:
    """All configurations in the order of the lines, the first values first.

    Of more than ``most`` there come the first one and a random sample of the others, the
    same one each time.
    """
    names = list(tunes)
    total = math.prod(len(values) for values in tunes.values())
    if total <= most:
        return [
            dict(zip(names, choice, strict=True)) for choice in itertools.product(*tunes.values())
        ]
    chosen = sorted({0, *random.Random(0).sample(range(total), most - 1)})
    return [_numbered(tunes, number) for number in chosen]


def _numbered(tunes: Mapping[str, tuple[str, ...]], number: int) -> dict[str, str]:
    """The configuration at that place of the full product."""
    values = {}
    for name, choices in reversed(list(tunes.items())):
        number, digit = divmod(number, len(choices))
        values[name] = choices[digit]
    return {name: values[name] for name in tunes}


def values_text(values: Values) -> str:
    """``BLOCK=256, VECTOR=4``."""
    return ", ".join(f"{name}={value}" for name, value in values.items())
