"""Accept, Reject and Revert: the user's decision on a kernel, carried out in the editor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from kernel_lsp.documents import View
from kernel_lsp.features.edits import Plan, accept_plan, revert_plan
from kernel_lsp.features.target import Target, find_target, text_edit
from kernel_lsp.session import Session
from kernel_lsp.state import decorated
from search_engine.deliver import edit as lines
from search_engine.deliver import files
from search_engine.deliver.delivery import Delivery, TextEdit
from search_engine.errors import DeliveryError, KernelLspError
from search_engine.store.records import Decision, Run

logger = logging.getLogger(__name__)

_BUFFER_SECONDS = 3.0  # from the client's "applied" to its change of the buffer
_SAVE_SECONDS = 1.0  # an editor that saves what it created does so within this
_POLL_SECONDS = 0.02


async def accept(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Put the offered kernel into the project with one workspace edit.

    Nothing stays where any part of it fails. Raises DeliveryError and StoreError.
    """
    target = await find_target(session, arguments)
    run, delivery = _delivery(target)
    _check_client(session, run)
    view = target.view
    edits = await asyncio.to_thread(lines.insert, view.text, delivery)
    folder = view.file.parent
    before = await asyncio.to_thread(_contents, folder, delivery)
    _check_free(before, delivery, folder)
    plan = accept_plan(
        session.capabilities, view, delivery, [_client_edit(view, e) for e in edits],
        confirm=session.settings.preview_accept,
    )  # fmt: skip
    await _record(session, run, "accepted")
    try:
        if not plan.creates:
            await asyncio.to_thread(files.write, folder, delivery)
        await _apply(session, view, plan)
        await _settle(session, view, delivery, plan)
    except BaseException:
        await asyncio.shield(_take_back(session, view.uri, run, before))
        raise
    await asyncio.to_thread(files.sweep, folder, delivery)
    replaced = target.standing.in_place
    if replaced is not None and replaced.id != run.id:
        await _record(session, replaced, "reverted")
    return {"run": run.id, "decision": "accepted", "files": _uris(folder, delivery)}


async def reject(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Decline the kernel. Files of an Accept that was undone in the editor go too."""
    target = await find_target(session, arguments)
    run, delivery = _delivery(target)
    if target.standing.in_place is not None and target.standing.in_place.id == run.id:
        raise DeliveryError(f"The kernel of {run.qualname} is in place: use Revert.")
    if run.decision == "accepted":
        await _remove_files(session, target.view.file.parent, delivery)
    await _record(session, run, "rejected")
    return {"run": run.id, "decision": "rejected", "files": []}


async def revert(session: Session, arguments: Sequence[Any]) -> dict[str, Any]:
    """Take out exactly what Accept put in. Raises DeliveryError and StoreError."""
    target = await find_target(session, arguments)
    run = target.standing.in_place or target.chosen()
    delivery = run.delivery
    if delivery is None:
        raise DeliveryError(f"No kernel of {run.qualname} is in place: there is nothing to revert.")
    _check_client(session, run)
    view, folder = target.view, target.view.file.parent
    edits = await asyncio.to_thread(lines.remove, view.text, delivery)
    contents = await asyncio.to_thread(_contents, folder, delivery)
    leaving, _ = await asyncio.to_thread(files.leaving, folder, delivery)
    texts = {folder / name: text for name, text in delivery.files.items()}
    unchanged = [path for path in leaving if _same(contents[path], texts[path])]
    plan = revert_plan(
        session.capabilities, view, delivery, [_client_edit(view, e) for e in edits], unchanged
    )
    await _apply(session, view, plan)
    if not await _buffer(session, view.uri, lambda text: not lines.is_applied(text, delivery)):
        raise DeliveryError(
            f"The editor did not take the kernel of {run.qualname} out: try Revert again."
        )
    await _remove_files(session, folder, delivery)
    await _record(session, run, "reverted")
    return {"run": run.id, "decision": "reverted", "files": []}


# --- parts ----------------------------------------------------------------------------


def _delivery(target: Target) -> tuple[Run, Delivery]:
    run = target.chosen()
    if run.delivery is None:
        raise DeliveryError(f"The search of {run.qualname} offers no kernel: {run.message}")
    return run, run.delivery


def _check_client(session: Session, run: Run) -> None:
    if not session.capabilities.apply_edit:
        raise DeliveryError(
            "This editor lets no server edit files: use `kernel-lsp accept` and "
            f"`kernel-lsp revert` with {run.id}."
        )


def _client_edit(view: View, edit: TextEdit) -> lsp.TextEdit:
    return text_edit(view, edit.start, edit.end, edit.text)


def _contents(folder: Path, delivery: Delivery) -> dict[Path, bytes | None]:
    """What lies where the delivered files go, None where nothing does."""
    found: dict[Path, bytes | None] = {}
    for name in delivery.files:
        path = folder / name
        found[path] = path.read_bytes() if path.is_file() else None
    return found


def _same(content: bytes | None, text: str) -> bool:
    """Whether a file holds the text; editors may change line ends and the last line's."""
    return content is not None and content.split() == text.encode().split()


def _check_free(contents: dict[Path, bytes | None], delivery: Delivery, folder: Path) -> None:
    """An editor's "create" overwrites: what is not ours must be found before it is asked."""
    for name, text in delivery.files.items():
        content = contents[folder / name]
        if content is None or _same(content, text):
            continue
        found = content.decode("utf-8", errors="replace")
        if not files.is_unchanged(name, found):
            what = "was edited since it was delivered" if files.is_ours(found) else "is in the way"
            raise DeliveryError(f"{folder / name} {what}: move it away, then accept again.")


def _fill(folder: Path, delivery: Delivery) -> None:
    """Write the files that the client created empty."""
    for name in delivery.files:
        path = folder / name
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
    files.write(folder, delivery)


async def _remove_files(session: Session, folder: Path, delivery: Delivery) -> None:
    kept = await asyncio.to_thread(files.remove, folder, delivery)
    if kept:
        names = ", ".join(str(path.relative_to(folder)) for path in kept)
        session.warn(f"{names} was edited since it was delivered and stays: delete it by hand.")


def _uris(folder: Path, delivery: Delivery) -> list[str]:
    return [(folder / name).as_uri() for name in delivery.files]


async def _record(session: Session, run: Run, decision: Decision) -> None:
    await session.storage.call(lambda store: store.decide(run.id, decision))
    await session.watcher.look(force=True)


async def _apply(session: Session, view: View, plan: Plan) -> None:
    current = session.view(view.uri)
    if current is None or current.version != view.version:
        raise DeliveryError("The file changed at the same moment: try again.")
    try:
        answer = await session.server.workspace_apply_edit_async(
            lsp.ApplyWorkspaceEditParams(
                edit=plan.edit,
                label=plan.label,
                metadata=lsp.WorkspaceEditMetadata(is_refactoring=True),
            )
        )
    except JsonRpcException as error:  # Neovim's answer where it cannot make a file or folder
        raise _not_applied(error.message) from error
    if not answer.applied:
        if answer.failure_reason:
            raise _not_applied(answer.failure_reason)
        raise DeliveryError(
            "The editor did not apply the edit: try again once the file is at rest."
        )


def _not_applied(reason: str) -> DeliveryError:
    return DeliveryError(
        f"The editor did not apply the edit ({_brief(reason)}): mend that, then try again."
    )


def _brief(reason: str) -> str:
    """An editor's reason as one line: Lua errors come with a traceback."""
    return reason.partition("stack traceback:")[0].strip().replace("\n", " ")[:300]


async def _settle(session: Session, view: View, delivery: Delivery, plan: Plan) -> None:
    """See to it that the whole edit was taken and that the files are on disk.

    A preview with only some boxes ticked is answered with "applied" too.
    """
    folder = view.file.parent
    if plan.fills and await _saved(folder, delivery):
        pass
    elif plan.fills and any(not (folder / name).exists() for name in delivery.files):
        raise DeliveryError(
            f"Only a part of the edit was taken, so the kernel of {delivery.qualname} was taken "
            "out again: accept all of it."
        )
    else:
        # Created but empty: the text is in an unsaved buffer, or was ours to fill in.
        await asyncio.to_thread(_fill, folder, delivery)
    if not await _buffer(session, view.uri, lambda text: lines.is_applied(text, delivery)):
        raise DeliveryError(
            f"The import and the decorator did not reach {view.file.name}, so the kernel of "
            f"{delivery.qualname} was taken out again: accept all of the edit."
        )


async def _saved(folder: Path, delivery: Delivery) -> bool:
    deadline = time.monotonic() + _SAVE_SECONDS
    while True:
        found = await asyncio.to_thread(_contents, folder, delivery)
        if all(_same(found[folder / name], text) for name, text in delivery.files.items()):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)


async def _buffer(session: Session, uri: str, wanted: Callable[[str], bool]) -> bool:
    """Wait until the buffer reads as wanted: the client's change may come after its answer."""
    deadline = time.monotonic() + _BUFFER_SECONDS
    seen: str | None = None
    while time.monotonic() < deadline:
        view = session.view(uri)
        if view is None:
            return False
        if view.text is not seen:
            seen = view.text
            if await asyncio.to_thread(wanted, seen):
                return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


async def _take_back(
    session: Session, uri: str, run: Run, before: dict[Path, bytes | None]
) -> None:
    """Leave nothing of an Accept that failed half-way."""
    assert run.delivery is not None
    try:
        view = session.view(uri)
        module = None if view is None else view.modules.get(run.qualname)
        if view is not None and (
            run.delivery.import_line in view.text
            or (module is not None and decorated(module, run.delivery))
        ):
            edits = lines.remove(view.text, run.delivery)
            plan = revert_plan(
                session.capabilities, view, run.delivery, [_client_edit(view, e) for e in edits], ()
            )
            await _apply(session, view, plan)
    except KernelLspError as error:
        logger.warning("the edit could not be taken back: %s", error)
    for path, content in before.items():
        _restore(path, content)
    await _record(session, run, run.decision)


def _restore(path: Path, content: bytes | None) -> None:
    try:
        if content is not None:
            path.write_bytes(content)
            return
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        logger.warning("%s could not be restored: %s", path, error)
