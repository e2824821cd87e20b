"""A kernel file in parts, and the one printer of whole files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from attrs import frozen

from search_engine.playbook.dtypes import INFINITIES
from search_engine.playbook.names import folded


@frozen
class Part:
    """What one idea writes for one loop nest.

    ``lines`` are launch and scratch lines without tune lines, in order; ``includes`` headers
    without brackets; ``constants`` pairs of a definition and the reason for its number;
    ``helpers`` and ``kernels`` are functions of device code.
    """

    comment: str
    lines: tuple[str, ...]
    includes: tuple[str, ...]
    constants: tuple[tuple[str, str], ...]
    helpers: tuple[str, ...]
    kernels: tuple[str, ...]

    @property
    def code(self) -> str:
        """Helpers and kernels, folded to the line length."""
        text = "\n\n".join([*self.helpers, *self.kernels])
        return "\n".join(folded(line) for line in text.splitlines())


def printed(part: Part) -> str:
    """The ``.cu`` text of one part."""
    blocks = [_comment(part.comment), "\n".join(part.lines), *_head([part])]
    if part.constants:
        blocks.append(_constants(part))
    return "\n\n".join([*blocks, part.code]) + "\n"


def _comment(text: str) -> str:
    return "\n".join(
        "\n".join("// " + line for line in textwrap.wrap(paragraph, 94))
        for paragraph in text.split("\n")
    )


def _head(parts: Sequence[Part]) -> list[str]:
    """Includes and macros that the parts need, each once."""
    headers = dict.fromkeys(header for part in parts for header in part.includes)
    blocks = ["\n".join(f"#include <{header}>" for header in headers)] if headers else []
    code = "\n".join(part.code for part in parts)
    for name, value in INFINITIES.items():
        if re.search(rf"\b{name}\b", code):
            blocks.append(f"#define {name} {value}")
    return blocks


def _constants(part: Part) -> str:
    width = max(len(definition) for definition, _ in part.constants)
    return "\n".join(f"{d:<{width}}  // {why}" for d, why in part.constants)
