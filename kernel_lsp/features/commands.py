"""The commands behind lenses and code actions, each with what it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import evolve
from lsprotocol import types as lsp

from kernel_lsp import offers
from kernel_lsp.diff import unified
from kernel_lsp.features import decide
from kernel_lsp.features.actions import inputs_edit, workspace_edit
from kernel_lsp.features.target import Target, find_target
from kernel_lsp.inputs import inputs_known
from kernel_lsp.presentation import recording_markdown, result_phrase, run_markdown
from kernel_lsp.session import Session
from kernel_lsp.state import changed
from search_engine.deliver import edit as lines
from search_engine.errors import (
    CaptureError,
    DeliveryError,
    KernelLspError,
    SetupError,
    StoreError,
)
from search_engine.recording import Recording
from search_engine.store.records import Run
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

logger = logging.getLogger(__name__)

_READY_SECONDS = 5.0
_LISTED = 100  # runs in the answer of listRuns


async def execute(session: Session, command: str, arguments: Sequence[Any]) -> Any:
    """Run a command; what a user can mend becomes one notification, never a traceback."""
    try:
        await asyncio.wait_for(session.ready.wait(), _READY_SECONDS)
        return await COMMANDS[command](session, arguments)
    except StoreError as error:
        session.store_failed(str(error))
    except KernelLspError as error:
        session.error(str(error))
    except asyncio.TimeoutError:
        session.error("The editor did not answer in time: try again.")
    except Exception:
        logger.exception("%s failed", command)
        session.error(f"{command} met a bug in kernel-lsp: its log has the details.")
    return None


async def optimize(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Start a search for the class, or join the one that is active."""
    target = await find_target(session, arguments)
    view, module = target.view, target.module
    text = await asyncio.to_thread(_searchable, target)
    if module.fingerprint is None:
        raise CaptureError(f"{module.qualname} has a syntax error: mend it, then optimize.")
    recording = target.standing.recording
    recorded = () if recording is None else recording.usable(module.fingerprint)
    if not recorded and not inputs_known(view, module):
        raise CaptureError(_no_inputs(module.qualname, recording, module.fingerprint))
    search = session.settings.search
    request = CaptureRequest(
        path=view.path,
        text=text,
        qualname=module.qualname,
        target=search.target,
        import_timeout=search.import_timeout,
        recorded=recorded,
    )
    try:
        run_id = await session.searches.start(request, module.qualname, module.fingerprint, search)
    except SetupError:
        await session.watcher.look(force=True)  # the run that was closed again shows why
        raise
    await session.watcher.look(force=True)
    return {"run": run_id}


def _no_inputs(qualname: str, recording: Recording | None, fingerprint: str) -> str:
    ways = (
        "the code action *Describe inputs for kernel-lsp* inserts a comment to fill in, or define "
        "get_inputs() in the file"
    )
    if recording is None:
        return (
            f"Nothing says what {qualname} is run on: {ways}, or run your script once with "
            "`kernel-lsp record`."
        )
    if recording.changed(fingerprint):
        return f"{qualname} changed since it was recorded: record it again, or {ways}."
    return f"What was recorded of {qualname} cannot be used ({recording.undescribed}): {ways}."


def _searchable(target: Target) -> str:
    """The buffer's text as the search reads it: valid Python, without our own decorator.

    With the accepted kernel in place a search would compare with that kernel and not with
    the module.
    """
    view = target.view
    try:
        compile(view.text, str(view.file), "exec", dont_inherit=True, flags=_ONLY_AST)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"Line {line} of {view.file.name}" if line else view.file.name
        raise CaptureError(
            f"{where} is no valid Python ({getattr(error, 'msg', error)}): mend it, then optimize."
        ) from None
    in_place = target.standing.in_place
    if in_place is None or in_place.delivery is None:
        return view.text
    return lines.apply(view.text, lines.remove(view.text, in_place.delivery))


_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST: parse, compile nothing


async def resume(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Let a search that was stopped go on where it was."""
    target = await find_target(session, arguments)
    run = target.chosen()
    if changed(target.module, run):
        raise CaptureError(
            f"{run.qualname} changed since this search was stopped: start a new one with "
            "*Optimize with CUDA kernel*."
        )
    text = await asyncio.to_thread(_searchable, target)
    try:
        await session.searches.resume(run.id, evolve(run.request, path=target.view.path, text=text))
    finally:
        await session.watcher.look(force=True)
    return {"run": run.id}


async def stop(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Ask the search to end; it does after the kernel at hand."""
    run = (await find_target(session, arguments)).chosen()
    await session.searches.stop(run.id)
    await session.watcher.look(force=True)
    return {"run": run.id}


async def insert_inputs(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Insert the comment that describes the inputs."""
    target = await find_target(session, arguments)
    edit = inputs_edit(target.view, target.standing)
    if edit is None:
        raise CaptureError(f"The inputs of {target.module.qualname} are known already.")
    answer = await session.server.workspace_apply_edit_async(
        lsp.ApplyWorkspaceEditParams(
            workspace_edit(session, target.view, [edit]), "Describe inputs for kernel-lsp"
        )
    )
    return {"applied": bool(answer.applied)}


async def show_run(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Show the whole run as a page; what was recorded of the class where it has none."""
    target = await find_target(session, arguments)
    recording, run = target.standing.recording, target.run
    if run is None and recording is not None:
        changed_since = recording.changed(target.module.fingerprint)
        name, text = "recorded", recording_markdown(recording, changed=changed_since)
    else:
        run = target.chosen()
        name, text = run.id, run_markdown(run)
    path = await _scratch(session, name, f"{target.module.qualname}.md", text)
    await _show(session, path)
    return {"run": None if run is None else run.id, "page": path.as_uri()}


async def show_kernel(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Show the winner's source, or the best so far."""
    run = (await find_target(session, arguments)).chosen()
    kernel = run.winner or run.best
    if kernel is None:
        raise DeliveryError(f"The search of {run.qualname} has no verified kernel yet.")
    path = await _scratch(session, run.id, f"{run.qualname}.cu", kernel.source)
    await _show(session, path)
    return {"run": run.id, "kernel": path.as_uri()}


async def show_diff(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Show what Accept would change, as a unified diff where the client has no view of its own."""
    target = await find_target(session, arguments)
    run, view = target.chosen(), target.view
    delivery = run.delivery
    if delivery is None:
        raise DeliveryError(f"The search of {run.qualname} offers no kernel: {run.message}")

    def edited() -> str:
        return lines.apply(view.text, lines.insert(view.text, delivery))

    after = await asyncio.to_thread(edited)
    changes = {view.file.name: (view.text, after)}
    changes |= {name: ("", text) for name, text in delivery.files.items()}
    diff = await _scratch(session, run.id, f"{view.file.name}.diff", unified(changes))
    modified = await _scratch(session, run.id, view.file.name, after)
    created = [await _scratch(session, run.id, name, text) for name, text in delivery.files.items()]
    if not session.capabilities.opens_diffs:
        await _show(session, diff)
    return {
        "run": run.id,
        "original": view.uri,
        "modified": modified.as_uri(),
        "created": [path.as_uri() for path in created],
        "diff": diff.as_uri(),
    }


async def list_runs(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """The newest searches of all files, newest first; without a store there are none."""

    def read(store: Store) -> list[Run]:
        return [store.run(run_id) for run_id in store.run_ids()[:_LISTED]]

    runs = await session.storage.call(read) if session.storage.exists() else []
    return {
        "runs": [
            {
                "run": run.id,
                "uri": Path(run.path).as_uri(),
                "qualname": run.qualname,
                "status": run.status,
                "decision": run.decision,
                "result": result_phrase(run),
                "created": run.created,
            }
            for run in runs
        ]
    }


async def _scratch(session: Session, run_id: str, name: str, text: str) -> Path:
    """A file in the data folder to look at; the user's project stays as it is."""
    path = session.storage.path.parent / "shown" / run_id / name

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())

    try:
        await asyncio.to_thread(write)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}): make room or set KERNEL_LSP_DATA to "
            "another folder."
        ) from None
    return path


async def _show(session: Session, path: Path) -> None:
    if not session.capabilities.show_document:
        session.info(f"It is in {path}.")
        return
    await session.server.window_show_document_async(
        lsp.ShowDocumentParams(uri=path.as_uri(), take_focus=True)
    )


Command = Callable[[Session, Sequence[Any]], Awaitable[dict[str, Any]]]

COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        offers.OPTIMIZE: optimize,
        offers.STOP: stop,
        offers.RESUME: resume,
        offers.SHOW_RUN: show_run,
        offers.SHOW_KERNEL: show_kernel,
        offers.SHOW_DIFF: show_diff,
        offers.ACCEPT: decide.accept,
        offers.REJECT: decide.reject,
        offers.REVERT: decide.revert,
        offers.INSERT_INPUTS: insert_inputs,
        offers.LIST_RUNS: list_runs,
    }
)
