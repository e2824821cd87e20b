"""Paths as another machine may see them: inside the project, and no further."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_MARKS = (".git", ".hg", "pyproject.toml", "setup.py", "setup.cfg")
_ABSOLUTE = re.compile(r"(?<![\w.~/\\])/(?:[\w.+@~-]+/)+([\w.+@-]+)")


def project_root(path: Path) -> Path:
    """The project that a file is in: the nearest folder with its marks, else its own folder.

    A home directory under version control is no project.
    """
    for folder in path.parents:
        if folder in (Path.home(), Path(folder.anchor)):
            break
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return path.parent


def without_paths(root: Path) -> Callable[[str], str]:
    """A function that takes this machine's paths out of a message.

    Those in the project become relative to it, of all others only the last part stays:
    ``/home/ada/work/net.py`` is ``net.py`` or ``…/net.py``.
    """
    inside = re.compile(re.escape(str(root)) + r"(?:/|\b)")

    def clean(text: str) -> str:
        return _ABSOLUTE.sub(r"…/\1", inside.sub("", text))

    return clean
