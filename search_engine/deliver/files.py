"""The delivered files on disk: written whole, taken out only if nobody changed them.

Free of torch. Each file carries a hash of itself in a comment (``kernel-lsp:file``). It is
taken over what formatters leave alone: Python's syntax tree, other text without its white
space.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from search_engine.deliver.delivery import Delivery
from search_engine.deliver.names import PREFIX
from search_engine.errors import DeliveryError
from search_engine.source import digest, normalised, parse_or_none

_SIGNATURE = re.compile(r"^(?://|#) kernel-lsp:file ([0-9a-f]{16})[ \t]*\r?\n?", re.MULTILINE)


def signed(path: str, text: str) -> str:
    """``text`` with its own hash in a comment on the first line."""
    comment = "#" if path.endswith(".py") else "//"
    return f"{comment} kernel-lsp:file {_content_hash(path, text)}\n{text}"


def is_ours(text: str) -> bool:
    """Whether kernel-lsp wrote the file, changed since or not."""
    return _SIGNATURE.search(text) is not None


def is_unchanged(path: str, text: str) -> bool:
    """Whether the file is as kernel-lsp wrote it, but for formatting."""
    found = _SIGNATURE.search(text)
    return found is not None and found.group(1) == _content_hash(path, _SIGNATURE.sub("", text))


def _content_hash(path: str, text: str) -> str:
    if path.endswith(".py"):
        tree = parse_or_none(text)
        return digest("" if tree is None else normalised(tree))
    return digest("".join(text.split()))


def write(folder: Path, delivery: Delivery) -> None:
    """Write the delivery's files under ``folder``, the folder of the user's file.

    Each appears whole or not at all, and after a failure none is left that was not there.
    What an older delivery of the class needs no more is taken away (``sweep``).

    Raises DeliveryError where a file of that name is not kernel-lsp's, was changed by
    somebody, or the disk refuses.
    """
    paths = _paths(folder, delivery)
    before = {path: _existing(path) for path in paths}
    for path, text in before.items():
        if text is not None and text != paths[path] and not is_unchanged(path.name, text):
            what = "was edited since it was delivered" if is_ours(text) else "is not kernel-lsp's"
            raise DeliveryError(f"{path} {what}: move it away, then accept again.")
    folders = {path.parent for path in paths}
    made = [item for item in folders if not item.exists()]
    done: list[Path] = []
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, text)
            done.append(path)
    except OSError as error:
        _undo(done, before, made)
        raise DeliveryError(_advice(error, folder)) from error
    sweep(folder, delivery)


def sweep(folder: Path, delivery: Delivery) -> None:
    """Delete what an older delivery of the class left behind, and runtimes that nobody imports.

    Files that somebody changed stay, and so does what the disk refuses to give.
    """
    wanted = _paths(folder, delivery)
    for place in {path.parent for path in wanted}:
        stems = {path.stem for path in wanted if path.suffix == ".py" and not _is_shared(path)}
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            numbered = re.fullmatch(r"(\w+?)(?:\.\d+)?\.(?:cu|cubin\.txt)", path.name)
            ours = numbered is not None and numbered[1] in stems
            unused = path.name.startswith(PREFIX) and not _is_used(path, ())
            if path in wanted or not (ours or unused):
                continue
            with contextlib.suppress(OSError):
                if is_unchanged(path.name, _existing(path) or ""):
                    path.unlink()
                    _forget_bytecode(path)


def leaving(folder: Path, delivery: Delivery) -> tuple[list[Path], list[Path]]:
    """The delivery's files that ``remove`` deletes, and those that stay as they were edited.

    What it shares with other kernels of the folder is in neither while one is left.
    """
    gone: list[Path] = []
    kept: list[Path] = []
    # `__init__.py` last, before it the runtime: they go where nothing is left to use them.
    for path in sorted(_paths(folder, delivery), key=_is_shared):
        text = _existing(path)
        if text is None or (_is_shared(path) and _is_used(path, gone)):
            continue
        (gone if is_unchanged(path.name, text) else kept).append(path)
    return gone, kept


def remove(folder: Path, delivery: Delivery) -> list[Path]:
    """Delete the delivery's files that nobody changed, and their folder once it is empty.

    Returns the files that stay because they were edited. Raises DeliveryError where the
    disk refuses.
    """
    gone, kept = leaving(folder, delivery)
    try:
        for path in gone:
            path.unlink(missing_ok=True)
            _forget_bytecode(path)
        for parent in {path.parent for path in _paths(folder, delivery)}:
            _remove_if_empty(parent)
    except OSError as error:
        raise DeliveryError(_advice(error, folder)) from error
    return kept


def _is_shared(path: Path) -> int:
    """0 for a kernel's own file, 1 for a runtime, 2 for what makes the folder a package."""
    return 2 if path.name == "__init__.py" else int(path.name.startswith(PREFIX))


def _is_used(path: Path, without: Sequence[Path]) -> bool:
    """Whether a Python file beside a shared one needs it, but for those in ``without``."""
    others = [p for p in path.parent.glob("*.py") if p != path and p not in without]
    if path.name == "__init__.py":
        return bool(others)
    return any(path.stem in (_existing(other) or "") for other in others)


def write_text(path: Path, text: str) -> None:
    """Replace one file of the user's by ``text``, whole or not at all.

    Its permissions stay. Raises DeliveryError where the disk refuses.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        _write_whole(path.resolve(), text)
        if mode is not None:
            path.chmod(mode)
    except OSError as error:
        raise DeliveryError(_advice(error, path.parent)) from error


def _paths(folder: Path, delivery: Delivery) -> dict[Path, str]:
    paths = {}
    for name, text in delivery.files.items():
        parts = Path(name).parts
        if Path(name).is_absolute() or ".." in parts or len(parts) != 2:
            raise DeliveryError(f"{name!r} is no path of a delivered file.")
        paths[folder / name] = text
    return paths


def _existing(path: Path) -> str | None:
    """The file's text with its own line ends, None where there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""  # not ours, whatever it is


def _write_whole(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _undo(done: list[Path], before: dict[Path, str | None], made: list[Path]) -> None:
    for path in done:
        text = before[path]
        with contextlib.suppress(OSError):
            if text is None:
                path.unlink()
            else:
                _write_whole(path, text)
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _forget_bytecode(path: Path) -> None:
    cache = path.parent / "__pycache__"
    if path.suffix == ".py" and cache.is_dir():
        for compiled in cache.glob(f"{path.stem}.*.pyc"):
            compiled.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    left = [item for item in folder.iterdir() if item.name != "__pycache__"]
    if not left:
        cache = folder / "__pycache__"
        if cache.is_dir():
            shutil.rmtree(cache)
        folder.rmdir()


def _advice(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {folder} is full: make room, then try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{folder} cannot be written: check its permissions, then try again."
    return f"The delivered files in {folder} cannot be changed: {error.strerror or error}."
