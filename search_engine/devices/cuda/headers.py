"""Where CUDA's own headers are. Free of torch."""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path

from search_engine.errors import SetupError

ADVICE = (
    "install them with `pip install 'kernel-lsp[cuda13]'` (or `[cuda12]`), or set CUDA_HOME to a "
    "CUDA toolkit"
)


@functools.cache
def include_folders() -> tuple[str, ...]:
    """The folders for NVRTC's include path: the CUDA runtime's, CCCL's, and a toolkit's behind.

    ``<cooperative_groups.h>`` and ``<cuda/std/...>`` need CCCL. ``<mma.h>`` needs ``crt/``,
    which torch's wheels do not bring; where nvidia-cuda-crt is not installed, a toolkit of
    the same CUDA version supplies it. Raises SetupError where the CUDA runtime's headers
    are not found.
    """
    try:
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError:
        raise SetupError(f"cuda-pathfinder is missing: {ADVICE}.") from None

    runtime = find_nvidia_header_directory("cudart")
    if runtime is None:
        raise SetupError(f"The CUDA runtime's headers were not found: {ADVICE}.")
    try:
        cccl = find_nvidia_header_directory("cccl")
    except RuntimeError:  # a pathfinder that does not know the name
        cccl = None
    candidates = [Path(runtime), Path(runtime, "cccl"), *([Path(cccl)] if cccl else [])]
    if not any((folder / "crt/mma.h").is_file() for folder in candidates):
        candidates += [
            folder
            for folder in _toolkits()
            if (folder / "crt/mma.h").is_file() and version_of(folder) == version_of(Path(runtime))
        ][:1]
    found = [str(folder.resolve()) for folder in candidates if folder.is_dir()]
    return tuple(dict.fromkeys(found))


def version_of(folder: Path) -> str | None:
    """The CUDA version of the runtime's headers in ``folder``, "13000", None where unknown."""
    try:
        text = (folder / "cuda_runtime_api.h").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^#define\s+CUDART_VERSION\s+(\d+)", text, re.MULTILINE)
    return match[1] if match else None


def _toolkits() -> list[Path]:
    roots = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        roots.append(str(Path(nvcc).resolve().parent.parent))
    roots.append("/usr/local/cuda")
    return [Path(root, "include") for root in roots if root]
