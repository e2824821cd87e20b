"""What delivered files, functions and lines are called."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from search_engine.task import Task

PREFIX = "_runtime_"  # of the file that the kernels of a folder share


@frozen
class Names:
    """Names of one delivery; ``folder`` is relative to the folder of the user's file."""

    folder: str  # "net_cuda"
    safe: str  # the class as an identifier: "Net", "Outer_Net"
    relative: bool  # whether the user's file lies in a package

    @property
    def decorator(self) -> str:
        """The function that the user's file imports."""
        return f"{self.safe}_cuda"

    @property
    def import_line(self) -> str:
        """``from .net_cuda.Net import Net_cuda``, without the dot outside packages."""
        dot = "." if self.relative else ""
        return f"from {dot}{self.folder}.{self.safe} import {self.decorator}"

    def file(self, suffix: str, number: int = 0) -> str:
        """The path of a file; those of further kernels are numbered from 2."""
        return f"{self.folder}/{self.safe}{f'.{number + 1}' if number else ''}{suffix}"


def names_of(task: Task) -> Names:
    """The names for a task; none of them is taken by a module beside the user's file."""
    path = Path(task.path)
    package = path.stem == "__init__"
    stem = task.module_name.rpartition(".")[2] if package else path.stem
    folder = f"{_identifier(stem)}_cuda"
    while (path.parent / f"{folder}.py").exists():  # it would hide the folder
        folder += "_kernels"
    return Names(
        folder=folder,
        safe=_identifier(task.qualname.replace(".<locals>", "").replace(".", "_")),
        relative=package or "." in task.module_name,
    )


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text)
    return name if name.isidentifier() else f"m_{name}"
