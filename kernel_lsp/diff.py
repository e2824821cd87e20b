"""Unified diffs of what Accept would change: the same for editors and the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping


def unified(changes: Mapping[str, tuple[str, str]]) -> str:
    """A unified diff of several files by name: text before (empty: new) and after."""
    parts: list[str] = []
    for name, (before, after) in changes.items():
        source = f"a/{name}" if before else "/dev/null"
        for line in difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), source, f"b/{name}"
        ):
            parts.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(parts)
