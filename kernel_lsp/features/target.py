"""What a command is about: the file, the class and the run that its argument names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from lsprotocol import types as lsp

from kernel_lsp.documents import View
from kernel_lsp.modules import ModuleClass
from kernel_lsp.session import Session
from kernel_lsp.state import Standing
from search_engine.errors import CaptureError, DeliveryError, KernelLspError
from search_engine.store.records import Run


@frozen
class Target:
    """A class of an open file with where it stands; ``run`` is the one that the user saw."""

    view: View
    standing: Standing
    run: Run | None

    @property
    def module(self) -> ModuleClass:
        """The class in the buffer."""
        return self.standing.module

    def chosen(self) -> Run:
        """The run. Raises KernelLspError where the class has none."""
        if self.run is None:
            raise KernelLspError(
                f"There is no search of {self.module.qualname} yet: start one with "
                "*Optimize with CUDA kernel*."
            )
        return self.run


async def find_target(session: Session, arguments: Sequence[Any]) -> Target:
    """The target of a command.

    The argument is an object: ``uri``, and ``qualname`` or ``position`` (else the file's
    only module), and optionally ``run``, a run's id. Raises KernelLspError with a sentence
    where there is no such thing.
    """
    argument = arguments[0] if arguments else None
    if not isinstance(argument, dict) or not isinstance(argument.get("uri"), str):
        raise KernelLspError(
            "The command needs one object with `uri` and `qualname` (docs/lsp-extensions.md)."
        )
    view = session.view(argument["uri"])
    if view is None:
        raise KernelLspError(
            "Open the file as a Python file on disk first: save it, then try again."
        )
    module = _module(view, argument)
    standing = session.standing(view, module)
    if standing.run is None:  # a file that was opened just now: the store was not asked yet
        await session.watcher.look(force=True)
        standing = session.standing(view, module)
    return Target(view, standing, await _run(session, view, standing, argument.get("run")))


def _module(view: View, argument: dict[str, Any]) -> ModuleClass:
    qualname = argument.get("qualname")
    if isinstance(qualname, str):
        found = view.modules.get(qualname)
        if found is None:
            raise CaptureError(
                f"{view.file.name} has no nn.Module {qualname} with a forward any more."
            )
        return found
    position = argument.get("position")
    if isinstance(position, dict) and isinstance(position.get("line"), int):
        found = view.modules.at(position["line"])
        if found is not None:
            return found
    if len(view.modules.classes) == 1:
        return view.modules.classes[0]
    raise CaptureError("Put the cursor into an nn.Module with a forward first.")


async def _run(session: Session, view: View, standing: Standing, wanted: object) -> Run | None:
    known = [run for run in (standing.run, standing.in_place) if run is not None]
    if not isinstance(wanted, str):
        return known[0] if known else None
    for run in known:
        if run.id == wanted:
            return run
    run = await session.storage.call(lambda store: store.run(wanted))
    if (run.path, run.qualname) != (view.path, standing.module.qualname):
        raise DeliveryError(f"Run {wanted} belongs to {run.qualname} in {run.path}.")
    return run


def text_edit(view: View, start: int, end: int, text: str) -> lsp.TextEdit:
    """An edit of whole lines for the client; behind the last line is the end of its text."""
    return lsp.TextEdit(lsp.Range(_line_start(view, start), _line_start(view, end)), text)


def _line_start(view: View, line: int) -> lsp.Position:
    last = len(view.lines) - 1
    if line <= last or last < 0 or view.lines[last].endswith(("\n", "\r")):
        return lsp.Position(line, 0)
    return view.position(last, len(view.line(last)))
