"""Compiling CUDA C++ to cubins, several at once, in confined helper processes.

NVRTC runs nothing of what it compiles, but it reads what a source tells it to include; so
it runs in processes without keys that may open CUDA's headers only (``confine``). A source
that makes the compiler crash, hang or eat memory costs one helper.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeAlias

from attrs import field, frozen

from search_engine.contract.tokens import directives, tokenize
from search_engine.data_folder import data_folder
from search_engine.devices.cuda.compile_helper import read_frame, write_frame
from search_engine.devices.cuda.cubin import Function, functions_of
from search_engine.devices.cuda.headers import ADVICE, include_folders
from search_engine.devices.cuda.log import findings_of
from search_engine.devices.cuda.options import command_line
from search_engine.errors import SetupError
from search_engine.verdict import Finding
from search_engine.workers.environment import without_secrets

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
COMPILE_SECONDS = 90.0  # of wall time; the helper's own limit is on CPU time
CACHED_KERNELS = 4000  # some 20 KB each


@frozen
class Compiled:
    """A kernel as machine code. ``globals`` are variables that outlive a launch."""

    cubin: bytes = field(repr=False)
    functions: dict[str, Function]
    globals: tuple[str, ...]
    log: str  # warnings
    seconds: float  # of compilation; 0 where it came from the cache


@frozen
class Failed:
    """A source that did not compile."""

    findings: tuple[Finding, ...]


Outcome: TypeAlias = "Compiled | Failed"


class Compiler:
    """A small pool of helpers, started as they are needed. Threads may share it."""

    def __init__(self, *, helpers: int | None = None, cache: Path | None = None) -> None:
        """``cache`` is the folder of cubins, by default in the user's data folder."""
        self._size = helpers or max(1, min(4, os.cpu_count() or 1))
        self._cache = cache or data_folder() / "cubins"
        self._idle: queue.LifoQueue[Helper | None] = queue.LifoQueue()
        for _ in range(self._size):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="nvrtc")
        self._banner: dict[str, Any] | None = None

    def compile(self, sources: Sequence[str], arch: str) -> list[Outcome]:
        """Compile sources for ``arch`` ("sm_90a"); results are in the same order.

        Raises SetupError where NVRTC or CUDA's headers are missing.
        """
        jobs = [self._threads.submit(self._compile_one, source, arch) for source in sources]
        return [job.result() for job in jobs]

    def banner(self) -> dict[str, Any]:
        """``nvrtc`` (version) and ``confined`` (whether Landlock holds) of the helpers."""
        if self._banner is None:
            helper = self._take()
            self._give(helper)
            self._banner = helper.banner
        return self._banner

    def close(self) -> None:
        """End the helpers."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            helper = self._idle.get_nowait()
            if helper is not None:
                helper.close()

    def _take(self) -> Helper:
        helper = self._idle.get()
        if helper is None or not helper.alive:
            try:
                helper = Helper()
            except BaseException:
                self._idle.put(None)
                raise
        return helper

    def _give(self, helper: Helper) -> None:
        self._idle.put(helper if helper.alive else None)

    def _compile_one(self, source: str, arch: str) -> Outcome:
        refused = screen_includes(source)
        if refused:
            return Failed(tuple(refused))
        path = self._cache / f"{self._key(source, arch)}.bin"
        cached = _read_cache(path)
        if cached is not None:
            return cached
        helper = self._take()
        try:
            reply, cubin = helper.compile(source, arch)
        except HelperDied as death:
            return Failed((Finding("compile", str(death)),))
        finally:
            self._give(helper)
        if "error" in reply:
            return Failed((Finding("compile", str(reply["error"])),))
        if not reply["ok"]:
            return Failed(findings_of(str(reply["log"])))
        _write_cache(path, reply, cubin)
        return _compiled(reply, cubin, float(reply["seconds"]))

    def _key(self, source: str, arch: str) -> str:
        options = command_line(arch, include_folders())
        parts = [str(self.banner()["nvrtc"]), source, *options]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class HelperDied(Exception):
    """A helper ended or was ended; the message says why."""


class Helper:
    """One compile process. Not shared between threads at the same time."""

    def __init__(self) -> None:
        """Start the process and wait until it is confined. Raises SetupError."""
        include_folders()  # a clearer error than the helper's
        environment = without_secrets(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(_import_path())
        environment["CUDA_VISIBLE_DEVICES"] = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-m", "search_engine.devices.cuda.compile_helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd="/",
        )
        try:
            self.banner, _ = self._receive(START_SECONDS)
        except HelperDied as death:
            self._log.seek(0)
            told = self._log.read().decode(errors="replace").strip().splitlines()
            reason = told[-1] if told else str(death)
            self.close()
            raise SetupError(f"NVRTC could not be started ({reason}): {ADVICE}.") from None
        if not self.banner["confined"]:
            logger.warning("no Landlock here: the compiler's reading is limited by a screen only")

    @property
    def alive(self) -> bool:
        """Whether the process can take another source."""
        return self._process.poll() is None

    def compile(self, source: str, arch: str) -> tuple[dict[str, Any], bytes]:
        """The helper's reply and the cubin. Raises HelperDied."""
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin, {"arch": arch}, source.encode())
        except OSError:
            raise HelperDied("The compiler's process ended; try again.") from None
        return self._receive(COMPILE_SECONDS)

    def _receive(self, timeout: float) -> tuple[dict[str, Any], bytes]:
        stream = self._process.stdout
        assert stream is not None
        try:
            return read_frame(_Patient(stream, time.monotonic() + timeout))
        except TimeoutError:
            self._process.kill()
            self._process.wait()
            raise HelperDied(f"The compiler took more than {timeout:.0f} s.") from None
        except (EOFError, ValueError):
            self._process.kill()
            code = self._process.wait()
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise HelperDied(
                f"The compiler died ({why}): the source takes too much time or memory."
            ) from None

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()
        self._log.close()


class _Patient:
    """Reads from a pipe until a deadline."""

    def __init__(self, stream: IO[bytes], deadline: float) -> None:
        self._descriptor = stream.fileno()
        self._deadline = deadline

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            part = os.read(self._descriptor, min(size, 1 << 20))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def screen_includes(source: str) -> list[Finding]:
    """Includes that could not be one of CUDA's headers, by their text.

    The boundary is what the helper may open; this gives clearer messages, and is all there
    is on a machine without Landlock.
    """
    found = []
    for tokens in directives(tokenize(source)):
        words = [token.text for token in tokens]
        if len(words) < 2 or words[1] not in ("include", "include_next", "import", "embed"):
            continue
        operand = "".join(words[2:])
        named = operand[:1] + operand[-1:] in ("<>", '""') and len(operand) > 2
        inside = operand[1:-1]
        if not named or inside.startswith("/") or ".." in inside or "\\" in inside:
            place = tokens[2] if len(tokens) > 2 else tokens[0]
            found.append(
                Finding(
                    "include",
                    f"#{words[1]} {operand} names no header of CUDA: write one as <name.h>",
                    place.line,
                    place.column,
                )
            )
    return found


def _import_path() -> list[str]:
    """sys.path for a process that starts in another folder."""
    return [str(Path(entry).resolve()) for entry in sys.path if Path(entry or ".").exists()]


def _compiled(header: Mapping[str, Any], cubin: bytes, seconds: float) -> Compiled:
    names = header["globals"]
    assert isinstance(names, list)
    return Compiled(cubin, functions_of(cubin), tuple(names), str(header["log"]), seconds)


def _read_cache(path: Path) -> Compiled | None:
    try:
        with path.open("rb") as file:
            header, cubin = read_frame(file)
            return _compiled(header, cubin, 0.0)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError) as error:
        logger.warning("%s cannot be read (%s): compiling again", path, error)
        return None


def _write_cache(path: Path, reply: Mapping[str, Any], cubin: bytes) -> None:
    """A full disk or a read-only folder costs the cache, not the kernel."""
    header = {"log": reply["log"], "globals": reply["globals"]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            write_frame(file, header, cubin)
        Path(file.name).replace(path)
        _prune(path.parent)
    except OSError as error:
        logger.warning("the cubin was not cached in %s: %s", path.parent, error)


def _prune(folder: Path) -> None:
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
    for entry in entries[: max(len(entries) - CACHED_KERNELS, 0)]:
        entry.unlink(missing_ok=True)
