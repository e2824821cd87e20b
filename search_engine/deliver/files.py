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
from pathlib import Path

from search_engine.deliver.delivery import Delivery
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


def remove(folder: Path, delivery: Delivery) -> list[Path]:
    """Delete the delivery's files that nobody changed, and their folder once it is empty.

    Returns the files that stay because they were edited. Raises DeliveryError where the
    disk refuses.
    """
    kept = []
    paths = _paths(folder, delivery)
    try:
        # `__init__.py` last: it serves every delivery in the folder.
        for path in sorted(paths, key=lambda path: path.name == "__init__.py"):
            text = _existing(path)
            if text is None or (path.name == "__init__.py" and _has_others(path)):
                continue
            if is_unchanged(path.name, text):
                path.unlink()
                _forget_bytecode(path)
            else:
                kept.append(path)
        for parent in {path.parent for path in paths}:
            _remove_if_empty(parent)
    except OSError as error:
        raise DeliveryError(_advice(error, folder)) from error
    return kept


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


def _has_others(path: Path) -> bool:
    return any(other != path for other in path.parent.glob("*.py"))


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
