"""The folder of built kernels, kept below a size: what was used longest ago goes first."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

logger = logging.getLogger(__name__)

GIGABYTE = 10**9
# Pruning leaves this share, so that not every build behind it prunes again.
LEFT_SHARE = 0.8
# A folder that a build left behind when its process was killed; a live one is younger.
STALE_SECONDS = 3600.0


class BuildCache:
    """Modules by key, below ``limit`` bytes in all. Processes may share the folder.

    Another process may hold a module that goes: what is open stays readable, and what was
    only known of is built again.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.modules = folder / "modules"
        self._limit = limit
        self._size: int | None = None  # as this process knows it; others add to it unseen

    def find(self, key: str) -> Path | None:
        """The module's folder, marked as used just now; None where there is none."""
        found = self.modules / key
        if not (found / "hooked.so").exists():
            return None
        try:
            os.utime(found)
        except OSError as error:  # a folder that only others may write
            logger.info("%s cannot be marked as used: %s", found, error)
        return found

    def add(self, built: Path, key: str) -> Path:
        """Move the folder ``built`` in, and make room where there is too little."""
        target = self.modules / key
        size = _size_of(built)
        try:
            built.replace(target)
        except OSError:  # another process was first
            shutil.rmtree(built, ignore_errors=True)
        self._size = self._total() if self._size is None else self._size + size
        if self._size > self._limit:
            self.prune(keep=key)
        return target

    def prune(self, keep: str = "") -> None:
        """Take away the least recently used until the rest fits, but never ``keep``."""
        entries = []
        for entry in _folders(self.modules):
            try:
                entries.append((entry.stat().st_mtime, _size_of(entry), entry))
            except OSError:  # another process took it
                continue
        total = sum(size for _, size, _ in entries)
        room = int(self._limit * LEFT_SHARE)
        for _, size, entry in sorted(entries):
            if total <= room:
                break
            if entry.name != keep:
                shutil.rmtree(entry, ignore_errors=True)
                total -= size
        self._size = total
        for entry in _folders(self.folder):
            if entry.name.startswith("build-") and _age(entry) > STALE_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)

    def _total(self) -> int:
        return sum(_size_of(entry) for entry in _folders(self.modules))


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _size_of(folder: Path) -> int:
    """Bytes on disk of a folder's files."""
    try:
        return sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    except OSError:  # another process took it
        return 0


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0
