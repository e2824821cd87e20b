"""Processes that end with the process that wanted them. Free of torch."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import signal
import threading


def die_with_parent() -> None:
    """From now on the end of the parent ends this process's whole group, whatever it is at.

    PR_SET_PDEATHSIG does not serve here: a worker's parent to the kernel is the fork server,
    which lives as long as any worker does. But a worker holds the reading end of a pipe
    whose writing end is the parent's (``multiprocessing.parent_process().sentinel``); when
    that closes, the kernel itself sends SIGKILL, so that a worker that hangs in native
    code goes too. Called by the leader of the process group.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("not a process that multiprocessing started")
    pipe = parent.sentinel
    try:
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgid(0))  # negative: the group
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:  # a system that imitates Linux: a thread does it for all but native hangs
        threading.Thread(target=_watch, args=(pipe,), daemon=True).start()
    if select.select([pipe], [], [], 0)[0]:  # it went before we asked
        os._exit(1)


def _watch(pipe: int) -> None:
    select.select([pipe], [], [])
    os.killpg(os.getpgid(0), signal.SIGKILL)
