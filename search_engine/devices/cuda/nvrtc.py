"""The one door to NVRTC. Used in the compile helper's process only.

It goes through cuda.bindings, the layer that cuda.core itself calls: importing it takes
0.3 s less per helper, and it never touches the driver, which the helper may not open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from cuda.bindings import nvrtc

from search_engine.devices.cuda.options import FILE_NAME, command_line


@frozen
class Compilation:
    """What NVRTC made of one source: a cubin with its PTX, or None and a log that says why."""

    cubin: bytes | None
    ptx: str
    log: str


class NvrtcError(Exception):
    """NVRTC refused a call for a reason other than the source."""


def _call(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise NvrtcError(nvrtc.nvrtcGetErrorString(status)[1].decode())
    return tuple(values) if len(values) > 1 else values[0] if values else None


def version() -> str:
    """NVRTC's version, "13.5"."""
    major, minor = _call(nvrtc.nvrtcVersion())
    return f"{major}.{minor}"


def compile_source(source: str, arch: str, includes: Sequence[str]) -> Compilation:
    """Compile CUDA C++ to a cubin. Raises NvrtcError where NVRTC itself fails."""
    flags = [flag.encode() for flag in command_line(arch, includes)]
    program = _call(nvrtc.nvrtcCreateProgram(source.encode(), FILE_NAME.encode(), 0, None, None))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = bytearray(_call(nvrtc.nvrtcGetProgramLogSize(program)))
        _call(nvrtc.nvrtcGetProgramLog(program, log))
        text = log.rstrip(b"\0").decode(errors="replace")
        if status == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION:
            return Compilation(None, "", text)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise NvrtcError(text or nvrtc.nvrtcGetErrorString(status)[1].decode())
        cubin = bytearray(_call(nvrtc.nvrtcGetCUBINSize(program)))
        _call(nvrtc.nvrtcGetCUBIN(program, cubin))
        ptx = bytearray(_call(nvrtc.nvrtcGetPTXSize(program)))
        _call(nvrtc.nvrtcGetPTX(program, ptx))
        return Compilation(bytes(cubin), ptx.rstrip(b"\0").decode(errors="replace"), text)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
