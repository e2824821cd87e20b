"""A run as one file: what ``kernel-lsp export`` writes and ``kernel-lsp import`` reads.

The format is described in docs/run-files.md. A file may come from anybody: reading one
touches nothing but memory, is bounded in size, and refuses whatever ``pack`` would not
have written.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from attrs import evolve, frozen
from cattrs.errors import BaseValidationError

from search_engine import serial
from search_engine.deliver.delivery import Delivery
from search_engine.errors import StoreError
from search_engine.store.records import ENDED, Event, Run

FORMAT, VERSION = "kernel-lsp run", 1
MOST_BYTES = 256 * 2**20  # unpacked; a search of a thousand kernels takes a few megabytes
MOST_ENTRIES = 20_000

_ENTRY = re.compile(
    r"manifest\.json|run\.json|events\.json|module\.py|kernels/[1-9]\d{0,5}(\.template)?\.cu"
)
_ID = re.compile(r"[\w-]{1,40}")
_QUALNAME = re.compile(r"[\w.<>]{1,200}")
_DELIVERED = re.compile(r"\w+_cuda/[\w.]+\.(cu|py)")
_IMPORT_LINE = re.compile(r"from \.?[\w.]+ import \w+")
_DECORATOR_LINE = re.compile(r"@\w+")
# What would move a terminal's cursor or worse; sources may have tabs and form feeds.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_LATEST = 2**33  # unix time


@frozen
class Archived:
    """A run as read from a file. Its path is relative to the project that it came from."""

    run: Run
    events: tuple[Event, ...]


# --- writing --------------------------------------------------------------------------


def pack(run: Run, events: Sequence[Event], file: str, clean: Callable[[str], str]) -> bytes:
    """The file's bytes, always the same for the same run.

    ``file`` is the module's path in its project; ``clean`` takes paths of this machine out
    of messages. Sources are left as they are.
    """
    run = _renumbered(run)
    sources = {"module.py": run.request.text}
    for kernel in run.kernels:
        sources[f"kernels/{kernel.id}.cu"] = kernel.source
        if kernel.template is not None:
            sources[f"kernels/{kernel.id}.template.cu"] = kernel.template
    record = _without_sources(run, file)
    delivered = record.pop("delivery")
    record = _mapped(record, clean)
    record["delivery"] = delivered  # its files are code, too
    log = [{"time": e.time, "kind": e.kind, "message": clean(e.message)} for e in events]
    texts = {"run.json": _json(record), "events.json": _json(log), **sources}
    contents = {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "run": run.id,
        "class": run.qualname,
        "file": file,
        "environment": record["environment"],
        "contents": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
        },
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"manifest.json": _json(manifest).encode(), **contents}.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _renumbered(run: Run) -> Run:
    """Ideas and kernels counted from 1: their ids mean nothing in another store."""
    ideas = {record.id: number for number, record in enumerate(run.ideas, 1)}
    kernels = {kernel.id: number for number, kernel in enumerate(run.kernels, 1)}
    return evolve(
        run,
        ideas=tuple(evolve(record, id=ideas[record.id]) for record in run.ideas),
        kernels=tuple(
            evolve(kernel, id=kernels[kernel.id], idea_id=ideas[kernel.idea_id])
            for kernel in run.kernels
        ),
        winner_id=None if run.winner_id is None else kernels[run.winner_id],
    )


def _without_sources(run: Run, file: str) -> dict[str, Any]:
    task = None if run.task is None else evolve(run.task, path=file)
    bare = evolve(
        run,
        path=file,
        task=task,
        request=evolve(run.request, path=file, text=""),
        kernels=tuple(
            evolve(k, source="", template=None if k.template is None else "") for k in run.kernels
        ),
        alive=False,
    )
    record: dict[str, Any] = json.loads(serial.dumps(bare))
    return record


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value


# --- reading --------------------------------------------------------------------------


class _Refused(Exception):
    """Why a file is none that ``pack`` wrote, as the end of a sentence."""


def unpack(data: bytes, name: str) -> Archived:
    """The run in a file's bytes; ``name`` is the file's, for messages.

    The run has ended: one that was exported while it ran counts as stopped. A decision is
    that of the project it was taken in, so a kernel that was offered is offered again.
    Kernels of our own templates are no longer taken for such: who wrote the file is not
    known. Raises StoreError with one sentence.
    """
    try:
        return _read(_contents(data))
    except _Refused as refusal:
        raise StoreError(f"{name} is not imported: {refusal}.") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError,
    ):  # fmt: skip
        reason = "is damaged or no file that `kernel-lsp export` wrote: export the run again"
    except (ValueError, KeyError, TypeError, AttributeError, BaseValidationError, RecursionError):
        reason = "holds something that `kernel-lsp export` does not write: export the run again"
    raise StoreError(f"{name} {reason}.")


def _contents(data: bytes) -> dict[str, bytes]:
    """The entries by name, within the bounds and as the manifest says."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(infos) > MOST_ENTRIES or len(set(names)) < len(names):
            raise _Refused("it holds too many entries, or one twice")
        foreign = next((name for name in names if not _ENTRY.fullmatch(name)), None)
        if foreign is not None:
            raise _Refused(f"it holds {foreign[:80]!r}, which no run has")
        found, left = {}, MOST_BYTES
        for info in infos:
            with archive.open(info) as entry:
                # What the entry says of its own size is not believed.
                found[info.filename] = entry.read(left + 1)
            left -= len(found[info.filename])
            if left < 0:
                raise _Refused(f"it unpacks to more than {MOST_BYTES // 2**20} MB")
    manifest = json.loads(found.pop("manifest.json"))
    if manifest["format"] != FORMAT:
        raise _Refused("it is no run")
    if manifest["version"] != VERSION:
        raise _Refused(
            f"it has version {manifest['version']} of the format, this kernel-lsp knows "
            f"{VERSION}: upgrade kernel-lsp"
        )
    promised = {name: entry["sha256"] for name, entry in manifest["contents"].items()}
    if promised != {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}:
        raise _Refused("its contents are not what its manifest says")
    return found


def _read(contents: Mapping[str, bytes]) -> Archived:
    texts = {name: data.decode("utf-8") for name, data in contents.items()}
    record = json.loads(texts["run.json"])
    delivery = record.pop("delivery")
    record = _mapped(record, _harmless) | {"delivery": delivery}
    if delivery is not None:
        record["delivery"] = _mapped(delivery, _harmless) | {"files": delivery["files"]}
    run = serial.loads(json.dumps(record), Run)
    run = evolve(
        run,
        request=evolve(run.request, text=_source(texts["module.py"])),
        kernels=tuple(
            evolve(
                kernel,
                source=_source(texts[f"kernels/{kernel.id}.cu"]),
                template=None
                if kernel.template is None
                else _source(texts[f"kernels/{kernel.id}.template.cu"]),
            )
            for kernel in run.kernels
        ),
    )
    events = tuple(
        Event(0, run.id, float(e["time"]), _harmless(str(e["kind"])), _harmless(str(e["message"])))
        for e in json.loads(texts["events.json"])
    )
    for reason in _objections(run, events):
        raise _Refused(reason)
    return Archived(_ended(run), events)


def _harmless(text: str) -> str:
    text.encode("utf-8")  # a lone surrogate is a ValueError here, not in the database
    return _CONTROL.sub("\ufffd", text)


def _source(text: str) -> str:
    if _CONTROL.search(text):
        raise _Refused("a source in it holds control characters")
    return text


def _objections(run: Run, events: Sequence[Event]) -> Iterator[str]:
    """What would do harm later: ids and names become file names, lines go into the user's file."""
    if not _ID.fullmatch(run.id):
        yield "its run has an id that no run has"
    if not _QUALNAME.fullmatch(run.qualname) or run.request.qualname not in (None, run.qualname):
        yield "its class has a name that no class has"
    path = PurePosixPath(run.path)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        yield "its module lies outside of any project"
    times = [run.created, run.updated, *(k.created for k in run.kernels), *(e.time for e in events)]
    if not all(math.isfinite(time) and 0 <= time < _LATEST for time in times):
        yield "it holds a time that is none"
    if run.delivery is not None and not _plain_delivery(run.delivery, run.qualname):
        yield "the edit that it offers is none that kernel-lsp makes"
    ideas, kernels = [r.id for r in run.ideas], [k.id for k in run.kernels]
    if (
        not {k.idea_id for k in run.kernels} <= set(ideas)
        or len(set(ideas)) < len(ideas)
        or len(set(kernels)) < len(kernels)
        or run.winner_id not in (None, *kernels)
    ):
        yield "its ideas and kernels do not belong together"


def _plain_delivery(delivery: Delivery, qualname: str) -> bool:
    code = [delivery.import_line, delivery.decorator_line, *delivery.files.values()]
    return (
        delivery.qualname == qualname
        and all(_DELIVERED.fullmatch(name) for name in delivery.files)
        and _IMPORT_LINE.fullmatch(delivery.import_line) is not None
        and _DECORATOR_LINE.fullmatch(delivery.decorator_line) is not None
        and not any(_CONTROL.search(text) for text in code)
    )


def _ended(run: Run) -> Run:
    if run.status not in ENDED:
        run = evolve(run, status="stopped", message="It was exported while it ran.")
    return evolve(
        run,
        decision="none" if run.delivery is None else "pending",
        stop_requested=False,
        ideas=tuple(evolve(r, proposer=_foreign(r.proposer)) for r in run.ideas),
        # Evaluated where the module is made: only what was recorded here may be.
        request=evolve(run.request, recorded=()),
        # What the file asks of this machine is not the user's own choice.
        settings=evolve(run.settings, unguarded=False, device="auto"),
    )


def _foreign(proposer: str) -> str:
    return proposer if proposer.endswith(IMPORTED) else f"{proposer}{IMPORTED}"


IMPORTED = ", imported"  # behind a proposer's name
