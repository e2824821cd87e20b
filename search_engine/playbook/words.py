"""Numbers and lists as rationales say them."""

from __future__ import annotations

from collections.abc import Sequence


def size(count: float) -> str:
    """``28 bytes``, ``256 KB`` (1,024 bytes each), ``134 MB`` (10⁶ bytes each)."""
    if count < 1024:
        return f"{count:.0f} bytes"
    if count < 1e6:
        return f"{count / 1024:.3g} KB"
    return f"{count / 1e6:,.1f} MB" if count < 1e8 else f"{count / 1e6:,.0f} MB"


def time(seconds: float) -> str:
    """``31.4 µs``; what is less than a tenth is said to be that."""
    microseconds = seconds * 1e6
    return f"{microseconds:,.1f} µs" if microseconds >= 0.1 else "under 0.1 µs"


def counted(count: int, noun: str) -> str:
    """``1 row``, ``4,096 rows``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(items: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
