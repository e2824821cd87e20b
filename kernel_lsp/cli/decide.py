"""``accept``, ``reject`` and ``revert`` on the files as they lie on disk."""

from __future__ import annotations

from pathlib import Path

from kernel_lsp.diff import unified
from search_engine.deliver import edit, files
from search_engine.deliver.delivery import Delivery
from search_engine.errors import DeliveryError, KernelLspError
from search_engine.store.records import Run
from search_engine.store.store import Store

_MARK = "\ufeff"


def _delivery(run: Run) -> Delivery:
    if run.delivery is None:
        raise KernelLspError(f"Run {run.id} offers no kernel: {run.message}")
    return run.delivery


def _read(path: Path) -> tuple[str, str]:
    """The byte order mark, empty in most files, and the text behind it."""
    try:
        # Bytes, so that CRLF line ends survive.
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DeliveryError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DeliveryError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    mark = _MARK if text.startswith(_MARK) else ""
    return mark, text.removeprefix(mark)


def delivery_diff(run: Run) -> str:
    """The edit that Accept makes, as a unified diff over the user's file and the new files."""
    delivery = _delivery(run)
    path = Path(run.path)
    _, before = _read(path)
    after = edit.apply(before, edit.insert(before, delivery))
    new = {name: ("", text) for name, text in delivery.files.items()}
    return unified({path.name: (before, after), **new})


def _delivered(path: Path, delivery: Delivery) -> list[Path]:
    return [path.parent / name for name in delivery.files]


def accept(store: Store, run: Run) -> list[Path]:
    """Write the delivered files and the two lines; returns the files concerned.

    The user's file is written last: if anything fails before, nothing of theirs changed.
    Raises DeliveryError where the class changed since verification or a file is in the way.
    """
    delivery = _delivery(run)
    if run.decision == "accepted":
        raise KernelLspError(f"Run {run.id} was accepted already.")
    path = Path(run.path)
    mark, before = _read(path)
    after = edit.apply(before, edit.insert(before, delivery))
    files.write(path.parent, delivery)
    try:
        files.write_text(path, mark + after)
    except BaseException:
        files.remove(path.parent, delivery)
        raise
    store.decide(run.id, "accepted")
    return [*_delivered(path, delivery), path]


def reject(store: Store, run: Run) -> None:
    """Decline; nothing is on disk, so nothing is taken away."""
    _delivery(run)
    if run.decision != "pending":
        raise KernelLspError(f"Run {run.id} waits for no decision: it is {run.decision}.")
    store.decide(run.id, "rejected")


def revert(store: Store, run: Run) -> list[Path]:
    """Take out exactly what Accept put in; returns the files concerned.

    A delivered file that was edited since stays where it is.
    """
    delivery = _delivery(run)
    if run.decision != "accepted":
        raise KernelLspError(f"Run {run.id} was not accepted: it is {run.decision}.")
    path = Path(run.path)
    mark, before = _read(path)
    files.write_text(path, mark + edit.apply(before, edit.remove(before, delivery)))
    files.remove(path.parent, delivery)
    store.decide(run.id, "reverted")
    return [path, *_delivered(path, delivery)]
