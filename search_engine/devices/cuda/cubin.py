"""What a cubin says of its kernels: parameters, registers, memory. Free of torch.

A cubin is an ELF file. Sections and attributes are as cuobjdump names them; the layout of
``.nv.info`` is not documented by NVIDIA, so everything read from it may be None.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from attrs import frozen
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

_EIATTR_FRAME_SIZE = 0x11
_EIATTR_KPARAM_INFO = 0x17
_EIATTR_REGCOUNT = 0x2F
_FORMAT_SIZED = 4  # the only format with a payload; the others take two bytes

# From compute capability 9.0 on, the system takes this much of each block's shared memory
# and the cubin counts it in; it then has this symbol.
_RESERVED_SHARED = 1024
_RESERVED_SYMBOL = ".nv.reservedSmem.offset0"


@frozen
class Function:
    """One ``__global__`` function. Sizes in bytes, ``local_bytes`` per thread (spills, stack)."""

    name: str
    parameters: tuple[int, ...] | None  # the size of each
    registers: int | None
    shared_bytes: int  # static
    local_bytes: int | None


def functions_of(image: bytes) -> dict[str, Function]:
    """The kernels of a cubin by name."""
    elf = ELFFile(io.BytesIO(image))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = list(table.iter_symbols())
    registers: dict[str, int] = {}
    frames: dict[str, int] = {}
    for attribute, payload in _attributes(elf, ".nv.info"):
        if attribute in (_EIATTR_REGCOUNT, _EIATTR_FRAME_SIZE) and len(payload) == 8:
            index, value = struct.unpack("<II", payload)
            figures = registers if attribute == _EIATTR_REGCOUNT else frames
            figures[table.get_symbol(index).name] = value

    reserved = any(symbol.name == _RESERVED_SYMBOL for symbol in symbols)
    functions: dict[str, Function] = {}
    for symbol in symbols:
        name = symbol.name
        # A kernel has a bank of parameters; a device function that was not inlined has none.
        if symbol["st_info"]["type"] != "STT_FUNC" or not elf.get_section_by_name(
            f".nv.constant0.{name}"
        ):
            continue
        shared = elf.get_section_by_name(f".nv.shared.{name}")
        size = 0 if shared is None else shared["sh_size"]
        functions[name] = Function(
            name=name,
            parameters=_parameters(elf, name),
            registers=registers.get(name),
            shared_bytes=max(size - _RESERVED_SHARED, 0) if reserved else size,
            local_bytes=frames.get(name),
        )
    return functions


def _parameters(elf: ELFFile, function: str) -> tuple[int, ...] | None:
    sizes: dict[int, int] = {}
    section = f".nv.info.{function}"
    if elf.get_section_by_name(section) is None:
        return None
    for attribute, payload in _attributes(elf, section):
        if attribute == _EIATTR_KPARAM_INFO and len(payload) == 12:
            _, ordinal, _, flags = struct.unpack("<IHHI", payload)
            sizes[ordinal] = flags >> 18
    if sorted(sizes) != list(range(len(sizes))):
        return None
    return tuple(sizes[ordinal] for ordinal in range(len(sizes)))


def _attributes(elf: ELFFile, section: str) -> Iterator[tuple[int, bytes]]:
    found = elf.get_section_by_name(section)
    data = b"" if found is None else found.data()
    position = 0
    while position + 4 <= len(data):
        form, attribute, size = struct.unpack_from("<BBH", data, position)
        position += 4
        if form == _FORMAT_SIZED:
            yield attribute, data[position : position + size]
            position += size
