"""Where CUDA's own headers are. Free of torch."""

from __future__ import annotations

import functools
from pathlib import Path

from search_engine.errors import SetupError

ADVICE = (
    "install them with `pip install 'kernel-lsp[cuda13]'` (or `[cuda12]`), or set CUDA_HOME to a "
    "CUDA toolkit"
)


@functools.cache
def include_folders() -> tuple[str, ...]:
    """The folders for NVRTC's include path: the CUDA runtime's, and CCCL's within or beside it.

    ``<cooperative_groups.h>`` and ``<cuda/std/...>`` need the second. Raises SetupError
    where the CUDA runtime's headers are not found.
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
    found = [str(folder.resolve()) for folder in candidates if folder.is_dir()]
    return tuple(dict.fromkeys(found))
