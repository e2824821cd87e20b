"""From an exception in the user's code to one sentence with file and line."""

from __future__ import annotations

import traceback
from pathlib import Path

from search_engine.errors import CaptureError

_LONGEST = 300  # characters of a message from outside


def place(error: BaseException, path: str) -> str:
    """``net.py:12``: the last line of the user's file that the error came through.

    Where the file is not on the stack (an import inside an import), the last line that
    belongs to no installed package; where there is none either, the file's name.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename) == Path(path)]
    if not own:
        own = [f for f in frames if Path(f.filename).is_relative_to(Path(path).parent)]
        own = [f for f in own if "site-packages" not in f.filename]
    if not own:
        return Path(path).name
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def message(error: BaseException) -> str:
    """The error's class and the first paragraph of its message, on one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.strip().split("\n\n")[0].split())
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    text = text.rstrip(".:")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def failed(doing: str, error: BaseException, path: str, advice: str) -> CaptureError:
    """``Running forward of Net failed at net.py:12 (ValueError: …): advice.``"""
    return CaptureError(f"{doing} failed at {place(error, path)} ({message(error)}): {advice}.")
