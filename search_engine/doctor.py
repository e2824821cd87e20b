"""What is found on this machine, and what to do about what is missing."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from search_engine.data_folder import data_folder, file_system, on_network
from search_engine.errors import KernelLspError, SetupError
from search_engine.hardware import GPUS

_TRIVIAL = 'extern "C" __global__ void trivial(float* x) { x[threadIdx.x] = 1.0f; }'
_COOPERATIVE = (
    "#include <cooperative_groups.h>\n"
    'extern "C" __global__ void trivial() { cooperative_groups::this_grid().sync(); }'
)
_ARCH = "sm_90a"
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


@frozen
class Check:
    """One thing looked at. ``ok`` is None for what helps but is not needed here."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


@frozen
class Report:
    """All checks, whether a search can run here, and one sentence that says how."""

    checks: tuple[Check, ...]
    usable: bool
    summary: str


def report() -> Report:
    """Look at everything that a search uses. Takes seconds; raises nothing."""
    torch_check, gpus = _torch()
    nvrtc = _guarded("NVRTC", _nvrtc)
    compiler = _guarded("C++ compiler", _cpp)
    folder = _guarded("data folder", _data_folder)
    bindings = _bindings()
    checks = (
        _system(),
        torch_check,
        gpus,
        bindings,
        nvrtc,
        _guarded("nvcc", _nvcc),
        compiler,
        _guarded("ninja", _ninja),
        _guarded("seccomp", _seccomp),
        _landlock(),
        _targets(),
        folder,
    )
    base = bool(torch_check.ok and folder.ok and sys.platform == "linux")
    gpu = bool(gpus.ok and nvrtc.ok and bindings.ok)
    cpu = bool(compiler.ok)
    if base and gpu:
        summary = "Searches run on the GPU: kernels are verified and measured."
    elif base and cpu:
        summary = (
            "Searches run on the CPU: kernels are verified, and their time on a GPU is estimated."
        )
    else:
        wrong = [check for check in checks if check.ok is False]
        summary = "No search can run here: " + "; ".join(f"{c.name}: {c.advice}" for c in wrong)
    return Report(checks, base and (gpu or cpu), summary)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except KernelLspError as error:
        return Check(name, False, "missing", str(error))
    except Exception as error:  # noqa: BLE001 - a doctor that falls over helps nobody
        return Check(name, False, f"{type(error).__name__}: {error}", "please report this")


def _system() -> Check:
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if sys.platform == "linux":
        return Check("system", True, found)
    return Check("system", False, found, "use Linux, or WSL2 on Windows")


def _torch() -> tuple[Check, Check]:
    none = Check("GPU", None, "not looked for", "")
    try:
        import torch
    except ImportError as error:
        advice = f"install kernel-lsp beside your torch: {sys.executable} -m pip install torch"
        return Check("torch", False, str(error), advice), none
    build = "CPU build"
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    advice = "" if version >= (2, 9) else "upgrade torch to 2.9 or newer"
    checked = Check("torch", not advice, f"{torch.__version__}, {build}", advice)
    try:
        return checked, _gpus(build)
    except Exception as error:  # noqa: BLE001 - drivers fail in many ways
        return checked, Check("GPU", False, str(error), "check the NVIDIA driver with nvidia-smi")


def _gpus(build: str) -> Check:
    import torch

    driver = _first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    if not torch.cuda.is_available() or torch.version.cuda is None:
        if driver is None:
            return Check("GPU", None, "none", "kernels run on the CPU; times are estimates")
        advice = (
            f"install a CUDA build of torch (this one is a {build})"
            if torch.version.cuda is None
            else "torch does not see it: check CUDA_VISIBLE_DEVICES and the driver's version"
        )
        return Check("GPU", False, f"driver {driver}", advice)
    names = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        capability = f"sm_{properties.major}{properties.minor}"
        names.append(f"{properties.name} ({memory:.0f} GiB, {capability})")
    return Check("GPU", True, f"{', '.join(names)}; driver {driver or 'unknown'}")


def _bindings() -> Check:
    found, missing = [], []
    for package in ("cuda-core", "cuda-bindings"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if not missing:
        return Check("CUDA for Python", True, ", ".join(found))
    advice = "pip install 'kernel-lsp[cuda13]' (or [cuda12], as your torch is)"
    return Check("CUDA for Python", None, ", ".join(found) or "none", advice)


def _nvrtc() -> Check:
    from search_engine.devices.cuda.compiler import Compiled, Compiler
    from search_engine.devices.cuda.headers import include_folders

    with tempfile.TemporaryDirectory() as cache:
        compiler = Compiler(helpers=1, cache=Path(cache))
        try:
            banner = compiler.banner()
            trivial, cooperative = compiler.compile([_TRIVIAL, _COOPERATIVE], _ARCH)
        except SetupError as error:
            return Check("NVRTC", None, "missing", str(error))
        finally:
            compiler.close()
    if not isinstance(trivial, Compiled):
        return Check("NVRTC", False, str(trivial.findings[0]), "reinstall nvidia-cuda-nvrtc")
    found = (
        f"{banner['nvrtc']}, compiles for {_ARCH} in {trivial.seconds * 1e3:.0f} ms, "
        f"headers in {include_folders()[0]}"
    )
    if not isinstance(cooperative, Compiled):
        advice = "pip install nvidia-cuda-cccl: kernels cannot use <cooperative_groups.h>"
        return Check("NVRTC", None, found, advice)
    return Check("NVRTC", True, found)


def _nvcc() -> Check:
    program = shutil.which("nvcc")
    if program is None:
        return Check("nvcc", None, "none (not needed)")
    told = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=30, check=False
    ).stdout
    release = [line for line in told.splitlines() if "release" in line]
    return Check("nvcc", None, f"{program}, {release[0].strip() if release else 'unknown'}")


def _cpp() -> Check:
    from search_engine.devices.cpu.toolchain import find_toolchain

    return Check("C++ compiler", True, " ".join(find_toolchain().command))


def _ninja() -> Check:
    try:
        import ninja
    except ImportError:
        program = shutil.which("ninja")
    else:
        program = str(Path(ninja.BIN_DIR) / "ninja")
    version = None if program is None else _first_line([program, "--version"])
    if version is None:
        return Check("ninja", False, "none", "pip install ninja")
    return Check("ninja", True, version)


def _seccomp() -> Check:
    # With no filter given, a kernel that has filters says EFAULT and changes nothing
    # (prctl(2), PR_SET_SECCOMP).
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0) != 0
    if refused and ctypes.get_errno() == errno.EFAULT:
        return Check("seccomp", True, "filters are available")
    advice = "kernels of models run on a GPU only here, or with the setting `unguarded`"
    return Check("seccomp", None, "none", advice)


def _landlock() -> Check:
    from search_engine.devices.cuda.confine import landlock_version

    version = landlock_version()
    if version:
        return Check("Landlock", True, f"version {version} of its interface")
    advice = "the compiler's reading is limited by a check of its includes only"
    return Check("Landlock", None, "none", advice)


def _targets() -> Check:
    """GPUs that limit and estimate can be given for: what `--target` takes."""
    return Check("targets", True, ", ".join(sorted(GPUS)))


def _data_folder() -> Check:
    folder = data_folder()
    kind = file_system(folder) or "unknown file system"
    found = f"{folder} ({kind})"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        advice = "set KERNEL_LSP_DATA to a folder that you can write to"
        return Check("data folder", False, f"{found}: {error.strerror}", advice)
    found += f", {free / 2**30:.1f} GiB free"
    if on_network(folder):
        advice = "set KERNEL_LSP_DATA to a folder on a local disk: SQLite's WAL needs one"
        return Check("data folder", False, found, advice)
    if free < 2**28:
        return Check("data folder", False, found, "free some disk space")
    return Check("data folder", True, found)


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None
