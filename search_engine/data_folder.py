"""Where the store, logs and build caches live."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

# SQLite's WAL mode needs shared memory between the processes that have the database open,
# which no network file system gives (https://sqlite.org/wal.html, "Disadvantages", 2).
_NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.sshfs",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip


def data_folder() -> Path:
    """The data folder: ``KERNEL_LSP_DATA``, else the user's own, on a local disk.

    A home on a network file system is common on clusters. The folder is then one of this
    user's in /var/tmp, which is local and outlives a reboot.
    """
    override = os.environ.get("KERNEL_LSP_DATA")
    if override:
        return Path(override)
    folder = Path(platformdirs.user_data_dir("kernel-lsp"))
    if on_network(folder):
        return Path("/var/tmp") / f"kernel-lsp-{os.getuid()}"
    return folder


def on_network(path: Path) -> bool:
    """Whether ``path`` is or would be on a network file system."""
    return file_system(path) in _NETWORK


def file_system(path: Path) -> str:
    """The type of the file system that ``path`` is or would be on, "" where unknown.

    Read from /proc/self/mounts: the longest mount point above the path wins, the last
    line among equals (a later mount hides an earlier one).
    """
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    target = path.expanduser().absolute()
    existing = next((p for p in (target, *target.parents) if p.exists()), Path("/")).resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, point, name, *_ = line.split(" ")
        where = Path(point.encode().decode("unicode_escape"))
        if len(where.parts) >= best and existing.is_relative_to(where):
            best, kind = len(where.parts), name
    return kind
