"""From an address in a module to the kernel's source line, by the module's line table."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

_NAME = "kernel.cu"


def line_of(path: Path, address: int) -> int | None:
    """The line of the kernel that the instruction at ``address`` belongs to.

    Where the instruction was inlined from a header of the runtime, the line before it in
    the same stretch of code that is the kernel's own.
    """
    best: tuple[int, int] | None = None
    for start, end, line in _table(path):
        if start <= address < end and (best is None or start >= best[0]):
            best = (start, line)
    return best[1] if best else None


@lru_cache(maxsize=16)
def _table(path: Path) -> tuple[tuple[int, int, int], ...]:
    """(first address, address behind the last, line) of each row that is the kernel's."""
    elf = ELFFile(io.BytesIO(path.read_bytes()))
    if not elf.has_dwarf_info():
        return ()
    dwarf = elf.get_dwarf_info()
    rows: list[tuple[int, int, int]] = []
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is not None:
            rows += _rows(program)
    return tuple(rows)


def _rows(program: Any) -> list[tuple[int, int, int]]:
    version = program.header["version"]
    files = program.header["file_entry"]

    def own(index: int) -> bool:
        entry = files[index if version >= 5 else index - 1]
        return entry.name.decode(errors="replace").endswith(_NAME)

    rows = []
    line: int | None = None
    previous: int | None = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if previous is not None and line is not None and state.address > previous:
            rows.append((previous, state.address, line))
        if state.end_sequence:
            line = previous = None
            continue
        if state.line and own(state.file):
            line = state.line
        previous = state.address
    return rows
