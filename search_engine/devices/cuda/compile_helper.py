"""The process that compiles: reads sources, answers with cubins, may open CUDA's headers only.

Started by ``compiler.Helper`` with an environment that holds no keys. Frames both ways are
a length (8 bytes, little-endian), JSON, a length, bytes; no pickles, since what comes from
here has gone through a compiler fed with generated code.
"""

from __future__ import annotations

import json
import os
import struct
import time
from typing import IO, Any, Protocol

MEMORY_BYTES = 8 * 2**30
CPU_SECONDS = 60


class Readable(Protocol):
    """What frames are read from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""
        ...


def write_frame(stream: IO[bytes], header: dict[str, Any], payload: bytes = b"") -> None:
    """Send one message."""
    text = json.dumps(header).encode()
    stream.write(struct.pack("<Q", len(text)) + text + struct.pack("<Q", len(payload)) + payload)
    stream.flush()


def read_frame(stream: Readable) -> tuple[dict[str, Any], bytes]:
    """Receive one message. Raises EOFError where the other side is gone."""
    text, payload = _read_block(stream), _read_block(stream)
    return json.loads(text), payload


def _read_block(stream: Readable) -> bytes:
    (size,) = struct.unpack("<Q", _read_exactly(stream, 8))
    return _read_exactly(stream, size)


def _read_exactly(stream: Readable, size: int) -> bytes:
    data = stream.read(size)
    if data is None or len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Serve compilations over stdin and stdout until the other side closes."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the frames

    from search_engine.devices.cuda import confine, nvrtc
    from search_engine.devices.cuda.headers import include_folders
    from search_engine.devices.cuda.ptx import used_globals

    includes = include_folders()
    # NVRTC loads a second library (its builtins) at the first compilation: do one now.
    nvrtc.compile_source('extern "C" __global__ void warm_up() {}', "sm_80", includes)
    confine.limit_resources(memory_bytes=MEMORY_BYTES)
    confined = confine.allow_reading_only(includes)
    write_frame(replies, {"nvrtc": nvrtc.version(), "confined": confined})

    while True:
        try:
            request, source = read_frame(requests)
        except EOFError:
            return
        confine.limit_cpu(CPU_SECONDS)
        started = time.perf_counter()
        try:
            result = nvrtc.compile_source(source.decode(), request["arch"], includes)
        except nvrtc.NvrtcError as error:
            write_frame(replies, {"error": str(error)})
            continue
        seconds = time.perf_counter() - started
        write_frame(
            replies,
            {
                "ok": result.cubin is not None,
                "log": result.log,
                "globals": used_globals(result.ptx),
                "seconds": seconds,
            },
            result.cubin or b"",
        )


if __name__ == "__main__":
    main()
