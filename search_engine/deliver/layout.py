"""Python literals and calls as text, laid out as a formatter would have them. Free of torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

INLINE = 64  # a longer sequence gets a line per item


def number(value: int | float | bool) -> str:
    """A number; NaN and infinities have no literal."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def call(name: str, fields: list[str]) -> str:
    """A call with an argument per line."""
    return f"{name}(\n{block(fields)})"


def dictionary(items: Mapping[str, object], *, raw: bool = False) -> str:
    """A dict with an entry per line; values are text already where they are ``raw``."""
    entries = [f"{quoted(key)}: {value if raw else plain(value)}" for key, value in items.items()]
    return f"{{\n{block(entries)}}}" if entries else "{}"


def plain(value: object) -> str:
    """A plain Python value as it is written."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{plain(k)}: {plain(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        items = ", ".join(plain(item) for item in value)
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"[{items}]" if isinstance(value, list) else f"({items}{comma})"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """A string in double quotes where that needs no escapes."""
    printed = repr(text)
    return f'"{printed[1:-1]}"' if printed[0] == "'" and '"' not in text else printed


def sequence(items: list[str]) -> str:
    """A tuple of items that are text already."""
    inline = ", ".join(items) + ("," if len(items) == 1 else "")
    if len(inline) <= INLINE and "\n" not in inline:
        return f"({inline})"
    return f"(\n{block(items)})"


def block(items: list[str]) -> str:
    """An indented line per item."""
    return "".join(textwrap.indent(f"{item},\n", "    ") for item in items)
