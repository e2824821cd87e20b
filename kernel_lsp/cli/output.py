"""What commands print: JSON for programs, one sentence for errors, rich text for people."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from search_engine.errors import KernelLspError


def console() -> Console:
    """Standard output for people."""
    return Console(highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False, default=str)
    sys.stdout.write("\n")


def fail(error: KernelLspError, *, as_json: bool) -> int:
    """One sentence on standard error (as JSON too where a program reads); the exit code."""
    if as_json:
        print_json({"error": str(error)})
    print(f"kernel-lsp: {error}", file=sys.stderr)
    return error.exit_code
