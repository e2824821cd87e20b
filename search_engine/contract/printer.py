"""Prints launch, scratch and tune lines, and a whole kernel: ``parse`` backwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from search_engine.contract.kernel import Expression, Launch, Scratch, Tune

# An expression as parsed, or as text, or a number.
Printable: TypeAlias = "Expression | str | int | float"


def _text(value: Printable) -> str:
    if isinstance(value, Expression):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _dimensions(value: Printable | Sequence[Printable]) -> str:
    """One expression bare, several as a tuple; one in a sequence is bare too."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        texts = [_text(item) for item in value]
        return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
    return _text(value)


def launch_line(
    function: str,
    grid: Printable | Sequence[Printable],
    block: Printable | Sequence[Printable],
    arguments: Sequence[Printable],
    *,
    shared: Printable | None = None,
    cooperative: bool = False,
    cluster: Sequence[Printable] | None = None,
) -> str:
    """``// launch: name<<<grid, block, bytes>>>(arguments)`` with its options behind."""
    numbers = [_dimensions(grid), _dimensions(block)]
    if shared is not None:
        numbers.append(_text(shared))
    line = f"// launch: {function}<<<{', '.join(numbers)}>>>"
    line += f"({', '.join(_text(argument) for argument in arguments)})"
    if cooperative:
        line += " cooperative"
    if cluster is not None:
        line += f" cluster={_dimensions(cluster)}"
    return line


def scratch_line(name: str, dtype: str, shape: Sequence[Printable], *, zeroed: bool = False) -> str:
    """``// scratch: name dtype[shape]``, with ``zeroed`` behind it where asked."""
    sizes = ", ".join(_text(size) for size in shape)
    return f"// scratch: {name} {dtype}[{sizes}]" + (" zeroed" if zeroed else "")


def tune_line(name: str, values: Iterable[str | int]) -> str:
    """``// tune: NAME = a | b | c``."""
    return f"// tune: {name} = {' | '.join(str(value) for value in values)}"


def print_line(item: Launch | Scratch | Tune) -> str:
    """The line of a parsed launch, scratch or tune."""
    if isinstance(item, Scratch):
        return scratch_line(item.name, item.dtype, item.shape, zeroed=item.zeroed)
    if isinstance(item, Tune):
        return tune_line(item.name, item.values)
    return launch_line(
        item.function,
        item.grid,
        item.block,
        item.arguments,
        shared=item.shared,
        cooperative=item.cooperative,
        cluster=item.cluster,
    )


def kernel_text(lines: Iterable[str | Launch | Scratch | Tune], code: str) -> str:
    """A whole ``.cu`` file: contract lines, a blank line, device code."""
    head = [line if isinstance(line, str) else print_line(line) for line in lines]
    return "\n".join([*head, "", code.strip("\n"), ""])
