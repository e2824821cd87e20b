"""Calls of the search engine that answer with one JSON document.

The engine runs under the interpreter that has the user's torch, so the command line
asks it in a process of its own and imports no torch itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from search_engine.errors import KernelLspError, SetupError


def add_interpreter(parser: argparse.ArgumentParser) -> None:
    """The option that names the interpreter."""
    parser.add_argument(
        "--interpreter",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python that has your torch and kernel-lsp (default: this one)",
    )


def call_engine(arguments: Sequence[str], interpreter: str, stdin: str | None = None) -> Any:
    """The JSON that ``python -m search_engine ARGUMENTS`` prints.

    Raises SetupError where the interpreter cannot run the engine, KernelLspError with the
    engine's own sentence where it says ``{"error": …}``.
    """
    try:
        done = subprocess.run(
            [interpreter, "-m", "search_engine", *arguments],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        raise SetupError(
            f"The interpreter {interpreter} cannot be started ({error.strerror}): give the "
            "Python that has your torch with --interpreter."
        ) from None
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise SetupError(
            f"The search engine did not answer under {interpreter} ({last}): install "
            "kernel-lsp beside torch there, then run `kernel-lsp doctor`."
        ) from None
    if isinstance(answer, dict) and "error" in answer:
        refusal = KernelLspError(answer["error"])
        refusal.exit_code = done.returncode or 2
        raise refusal
    return answer
