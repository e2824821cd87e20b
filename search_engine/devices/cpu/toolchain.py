"""The C++ compiler that builds the runner and the kernels."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from search_engine.errors import SetupError

RUNTIME = Path(__file__).parent / "runtime"
INCLUDE = RUNTIME / "include"
SOURCES = RUNTIME / "src"

ADVICE = (
    "No C++ compiler is found: install g++ (apt install g++), clang++, or the Python package "
    "ziglang (pip install ziglang), or set CXX."
)
UNSUPPORTED_MACHINE = "Kernels run on the CPU of x86-64 and aarch64 Linux only; this is {}."

# C++ lets a compiler drop loops that do nothing but run on. A kernel that hangs must hang
# here as well: on a GPU it would take the user's session with it. And g++ takes a static
# variable that nothing writes for zero, so that the read of a shared one that the kernel
# forgot to fill would never be seen.
OPTIONAL = ("-fno-finite-loops", "-fno-ipa-reference-addressable")


@frozen
class Toolchain:
    """A compiler: the command, what it is, and a text that changes when it does."""

    command: tuple[str, ...]
    gcc: bool  # else clang (zig's included)
    identity: str
    optional: tuple[str, ...] = ()  # those of OPTIONAL that this version takes

    @property
    def common(self) -> tuple[str, ...]:
        """Options of every kernel's compilation."""
        return (
            *("-std=c++17", "-O2", "-g1", "-w", "-fPIC", "-fvisibility=hidden", "-pthread"),
            *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-stack-protector"),
            *("-fno-asynchronous-unwind-tables", "-fno-strict-aliasing"),
            # As nvcc does by default: products and sums are fused; errno is not set.
            *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
            *self._quiet,
            *self.optional,
            *_cpu_options(),
        )

    @property
    def _quiet(self) -> tuple[str, ...]:
        """One definition for each variable; messages without lines of the source."""
        if self.gcc:
            return ("-fno-gnu-unique", "-fno-ident", "-fno-diagnostics-show-caret")
        # zig's driver adds checks of undefined behaviour unless told otherwise.
        return ("-fno-caret-diagnostics", "-fno-sanitize=undefined")

    @property
    def hooked(self) -> tuple[str, ...]:
        """Options of the instrumented build: a call before every load and store.

        Without scalar replacement a vector type is read in one access, as on a GPU.
        """
        if self.gcc:
            return (
                *("-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"),
                "-fno-plt",  # a jump less for each access
                *("-fno-tree-sra", "-fno-ipa-sra", "-fno-tree-vectorize"),
                "-fno-optimize-sibling-calls",  # a jump into memcpy would hide the line
            )
        # By default clang leaves out the read of `y[i] += x`. It splits vector types before it
        # instruments, so that the estimate counts a 16-byte access as four.
        return (
            *("-fsanitize=thread", "-mllvm", "-tsan-instrument-read-before-write=1"),
            *("-mllvm", "-tsan-instrument-func-entry-exit=0"),
            *("-fno-vectorize", "-fno-slp-vectorize", "-fno-optimize-sibling-calls"),
        )

    @property
    def link(self) -> tuple[str, ...]:
        """Options that make a module: nothing but the kernel's own code is linked."""
        return (
            *("-shared", "-nostdlib", "-nostartfiles", "-Wl,-z,now", "-Wl,-z,noexecstack"),
            "-Wl,--build-id=none",
        )

    @property
    def libraries(self) -> tuple[str, ...]:
        """Behind the module's code: the compiler's own arithmetic helpers."""
        return ("-lgcc",) if self.gcc else ()


def find_toolchain() -> Toolchain:
    """``$CXX``, g++, clang++, PyPI's ziglang, in this order. Raises SetupError without any."""
    machine = platform.machine().lower()
    if sys.platform != "linux" or machine not in ("x86_64", "amd64", "aarch64", "arm64"):
        raise SetupError(UNSUPPORTED_MACHINE.format(f"{machine} {sys.platform}"))
    return _find(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find(cxx: str, _path: str) -> Toolchain:
    candidates = [tuple(shlex.split(cxx))] if cxx else []
    candidates += [("g++",), ("clang++",)]
    if find_spec("ziglang") is not None:
        candidates.append((sys.executable, "-m", "ziglang", "c++"))
    for command in candidates:
        program = shutil.which(command[0])
        if program is None:
            continue
        version = _version((program, *command[1:]))
        if version is not None:
            identity = hashlib.sha256(f"{program} {version}".encode()).hexdigest()
            found = (program, *command[1:])
            optional = tuple(option for option in OPTIONAL if _takes(found, option))
            return Toolchain(found, "clang" not in version, identity, optional)
    raise SetupError(ADVICE)


def _takes(command: tuple[str, ...], option: str) -> bool:
    """Whether this compiler knows the option: g++ from 10 on, clang++ from 12 on."""
    try:
        with tempfile.TemporaryDirectory(prefix="kernel-lsp-") as folder:
            (Path(folder) / "probe.cpp").write_text("int probe;\n")
            done = subprocess.run(
                [*command, option, "-c", "probe.cpp", "-o", "probe.o"],
                cwd=folder, capture_output=True, timeout=30, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _version(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@lru_cache(maxsize=1)
def _cpu_options() -> tuple[str, ...]:
    """Fused multiply-add and half conversions in hardware, where this CPU has them."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    wanted = {"avx2": "-mavx2", "fma": "-mfma", "f16c": "-mf16c", "popcnt": "-mpopcnt"}
    return tuple(option for flag, option in wanted.items() if flag in flags)


@lru_cache(maxsize=1)
def runtime_identity() -> str:
    """Changes when any file of the runtime does: part of every cache key."""
    digest = hashlib.sha256()
    for path in sorted(RUNTIME.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
