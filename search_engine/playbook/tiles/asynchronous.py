"""Tiles that go past the registers, by ``cp.async``."""

from __future__ import annotations

from attrs import mutable

from search_engine.playbook.dtypes import item_bytes
from search_engine.playbook.tiles.copies import ASYNC
from search_engine.playbook.tiles.movers import Mover


@mutable
class AsynchronousMover(Mover):
    """Copies a tensor's elements as they are, 4, 8 or 16 bytes at a time."""

    def __attrs_post_init__(self) -> None:
        Mover.__attrs_post_init__(self)
        size = self.vec * item_bytes(self.word.dtype)
        text = ASYNC.format(size=size, cache="cg" if size == 16 else "ca")
        self.writer.helpers.setdefault(text, text)

    def start(self, tile: str, stage: str, indent: str) -> list[str]:
        """Lines that start asynchronous copies of a tile into a stage."""
        row, k = self._in_tile()
        inner = indent + "  "
        lines = [
            f"{indent}{{",
            f"{inner}{self.word.type}* to = {self.name}_tiles + ({stage}) * {self.layout.size};",
        ]
        head, at = self._k_lines(tile, k, inner)
        lines += head
        taken, where = at
        condition, offset = self._element_at("i", where, raw=True)
        valid = self._valid("i", "k", condition)
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        size = self.vec * item_bytes(self.word.dtype)
        place = self.layout.at(row, self._word_at(k))
        lines += taken
        lines.append(
            f"{inner}  copy_async_{size}(to + {place}, {tensor} + {offset}, {valid or 'true'});"
        )
        return [*lines, f"{inner}}}", f"{indent}}}"]
