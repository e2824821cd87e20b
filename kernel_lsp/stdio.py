"""The server's standard input and output, out of reach of a stray ``print``."""

from __future__ import annotations

import os
from typing import BinaryIO


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's streams under descriptors of their own.

    What the process or a child of it prints goes to standard error, what it reads is empty.
    """
    stdin = os.fdopen(os.dup(0), "rb")
    stdout = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return stdin, stdout
