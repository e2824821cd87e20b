"""Memory shared with the runner: an anonymous file, mapped here as a flat tensor."""

from __future__ import annotations

import fcntl
import mmap
import os

import torch

from search_engine.errors import SetupError


class SharedMemory:
    """``size`` bytes at least. ``tensor`` is flat uint8, ``fd`` is what the runner maps."""

    def __init__(self, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd = os.memfd_create("kernel-lsp-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.size)
            # A file cut short under the mapping would end this process (SIGBUS).
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._map = mmap.mmap(self.fd, self.size)
        except OSError as error:
            os.close(self.fd)
            raise SetupError(
                f"No memory for a task of {size / 2**20:.0f} MiB on the cpu device "
                f"({error.strerror}): choose smaller inputs."
            ) from error
        self.tensor = torch.frombuffer(self._map, dtype=torch.uint8)

    def close(self) -> None:
        """Give the file back; the mapping goes with the last tensor on it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
