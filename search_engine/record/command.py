"""A user's command line, taken apart as Python would. Free of torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from search_engine.errors import KernelLspError

Kind: TypeAlias = Literal["script", "module", "command"]

_PYTHON = re.compile(r"(python|pypy)[\d.]*(w|t|d)?(\.exe)?")
_WITH_VALUE = "WX"  # options whose value may follow as the next word
_HELP = "Give a Python command line: kernel-lsp record -- python train.py"


@frozen
class Command:
    """What to run under which Python."""

    interpreter: str
    options: tuple[str, ...]  # of the interpreter
    kind: Kind
    target: str  # a file, a module's name or the text behind -c
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The command without its arguments, for people: ``train.py``, ``-m pkg.train``."""
        if self.kind == "script":
            return Path(self.target).name
        return f"-m {self.target}" if self.kind == "module" else "-c …"


def parse_command(words: Sequence[str], interpreter: str) -> Command:
    """``python -u train.py --lr 1``, ``train.py``, ``-m pkg.train``, or a Python console script.

    ``interpreter`` runs what names none. Raises KernelLspError where it is no such thing.
    """
    if not words:
        raise KernelLspError(f"There is nothing to run. {_HELP}.")
    first = words[0]
    if _PYTHON.fullmatch(Path(first).name):
        return _python(first, list(words[1:]))
    if first.startswith("-") or first.endswith(".py") or Path(first).is_dir():
        return _python(interpreter, list(words))
    found = shutil.which(first)
    shebang = _shebang(Path(found)) if found is not None else None
    if found is None or shebang is None:
        raise KernelLspError(f"{first!r} is no Python program that can be found here. {_HELP}.")
    return Command(shebang, (), "script", found, tuple(words[1:]))


def _python(interpreter: str, words: list[str]) -> Command:
    options: list[str] = []
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word.startswith("--"):
            options.append(word)
            if word == "--check-hash-based-pycs" and words:
                options.append(words.pop(0))
            continue
        # One letter after the other; -m, -c, -W and -X take the rest of the word or the next.
        for place, letter in enumerate(word[1:], 1):
            rest = word[place + 1 :]
            if letter in "mc":
                if place > 1:
                    options.append(word[:place])
                value = rest or (words.pop(0) if words else "")
                kind: Kind = "module" if letter == "m" else "command"
                return _checked(Command(interpreter, tuple(options), kind, value, tuple(words)))
            if letter in _WITH_VALUE:
                options.append(word)
                if not rest and words:
                    options.append(words.pop(0))
                break
        else:
            options.append(word)
    target = words.pop(0) if words else ""
    return _checked(Command(interpreter, tuple(options), "script", target, tuple(words)))


def _checked(command: Command) -> Command:
    if command.target in ("", "-"):
        raise KernelLspError(f"There is no script in the command. {_HELP}.")
    return command


def _shebang(path: Path) -> str | None:
    """The Python in a console script's first line, None where it is no such script."""
    try:
        with path.open("rb") as file:
            line = file.readline(256).decode("utf-8", "replace").strip()
    except OSError:
        return None
    if not line.startswith("#!"):
        return None
    words = line[2:].split()
    if words and Path(words[0]).name == "env":
        words = words[1:]
    return words[0] if words and _PYTHON.fullmatch(Path(words[0]).name) else None
