"""One run of the runner, watched: what it said, and how it ended."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

MOST_OUTPUT = 4 * 2**20  # bytes; a kernel that took over the pipe gets no further


@frozen
class Ending:
    """How a run ended. ``lines`` is what it said until then."""

    lines: tuple[str, ...]
    code: int  # exit status, negative: the signal
    timed_out: bool
    errors: str

    @property
    def complete(self) -> bool:
        """Whether the runner came to its end by itself."""
        return self.code == 0 and bool(self.lines) and self.lines[-1] == "done"

    @property
    def cause(self) -> str:
        """How it ended, in words."""
        if self.code == -signal.SIGSYS:
            return "it made a system call, which kernels have no need of (SIGSYS)"
        if self.code == -signal.SIGXCPU:
            return "it ran over its CPU time (SIGXCPU)"
        if self.code < 0:
            try:
                name = signal.Signals(-self.code).name
            except ValueError:
                name = f"signal {-self.code}"
            return f"the process was ended by {name}"
        return f"the process ended with status {self.code}"


def run(runner: Path, job: str, files: Sequence[int], timeout: float) -> Ending:
    """Run one job with the open ``files``; at most ``timeout`` seconds, then it is killed."""
    process = subprocess.Popen(
        [str(runner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        pass_fds=list(files), env={}, cwd="/", start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout
    said: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    timed_out = False
    try:
        try:
            process.stdin.write(job.encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early; the exit status says why
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, "out")
            selector.register(process.stderr, selectors.EVENT_READ, "err")
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    timed_out = True
                    break
                for key, _ in selector.select(left):
                    chunk = os.read(key.fd, 65536)
                    said[key.data] += chunk
                    if not chunk or len(said[key.data]) > MOST_OUTPUT:
                        selector.unregister(key.fileobj)
        if not timed_out:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                timed_out = True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            stream.close()
    lines = tuple(said["out"].decode(errors="replace").splitlines())
    errors = said["err"].decode(errors="replace")[:2000]
    timed_out = timed_out or process.returncode == -signal.SIGXCPU
    return Ending(lines, process.returncode, timed_out, errors)
