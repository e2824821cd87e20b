"""How kernels are compiled: NVRTC's command line. Free of torch and of NVRTC.

Delivered modules compile with the same options, or they would run something else than
what was verified.
"""

from __future__ import annotations

from collections.abc import Sequence

FILE_NAME = "kernel.cu"  # how the log names the kernel's own source
STANDARD = "c++17"


def command_line(arch: str, includes: Sequence[str]) -> list[str]:
    """NVRTC's options for ``arch`` ("sm_90a"). No fast math: that is the kernel's own choice."""
    return [
        f"--gpu-architecture={arch}",
        f"--std={STANDARD}",
        *(f"--include-path={folder}" for folder in includes),
    ]
