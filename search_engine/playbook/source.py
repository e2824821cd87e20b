"""A kernel file in parts, and the one printer of whole files."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from attrs import evolve, frozen

from search_engine.playbook.dtypes import INFINITIES
from search_engine.playbook.names import folded


@frozen
class Part:
    """What one idea writes for one loop nest.

    ``lines`` are launch, scratch and tune lines, in order; ``includes`` headers
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


def printed_stages(comment: str, lines: Sequence[str], stages: Sequence[tuple[str, Part]]) -> str:
    """The ``.cu`` text of several parts, launched in order, each in a namespace of its name.

    ``lines`` are scratch lines of what passes between them. Kernel functions, which have C
    linkage, are renamed after their stage; helpers that stages have in common come once.
    """
    taken = {_SCRATCH.match(line)[1] for line in lines}  # type: ignore[index]
    parts: list[Part] = []
    for name, part in stages:
        part = _own_scratch(_own_macros(_own_functions(part, name), parts), name, taken)
        taken |= {found[1] for line in part.lines if (found := _SCRATCH.match(line))}
        parts.append(part)
    common = _common_helpers(parts)
    every = [*lines, *(line for part in parts for line in part.lines)]
    launches = [line for line in every if line.startswith("// launch:")]
    blocks = [
        _comment(comment),
        "\n".join([*(line for line in every if line not in launches), *launches]),
        *_head(parts),
        *common,
    ]
    for (name, _), part in zip(stages, parts, strict=True):
        own = evolve(part, helpers=tuple(h for h in part.helpers if h not in common))
        blocks.append(f"{_comment(part.comment)}\nnamespace {name}_stage {{")
        if own.constants:
            blocks.append(_constants(own))
        blocks.append(f"{own.code}\n\n}}  // namespace {name}_stage")
    return "\n\n".join(blocks) + "\n"


_SCRATCH = re.compile(r"// scratch: (\w+)")
_LAUNCH = re.compile(r"// launch: (\w+)(.*)", re.DOTALL)
_TUNE = re.compile(r"// tune: (\w+)")


def _own_functions(part: Part, stage: str) -> Part:
    """Kernels named after their stage, with their own name behind where it has several."""
    functions = dict.fromkeys(m[1] for line in part.lines if (m := _LAUNCH.match(line)))
    kernels, lines = part.kernels, part.lines
    for function in functions:
        name = stage if len(functions) == 1 else f"{stage}_{function}"
        kernels = tuple(re.sub(rf"\b{function}(?=\()", name, text) for text in kernels)
        lines = tuple(re.sub(rf"(?<=// launch: ){function}\b", name, text) for text in lines)
    return evolve(part, kernels=kernels, lines=lines)


def _own_scratch(part: Part, stage: str, taken: set[str]) -> Part:
    """Scratch names that no other stage has."""
    lines = list(part.lines)
    for name in [m[1] for line in lines if (m := _SCRATCH.match(line))]:
        if name in taken:
            own = f"{stage}_{name}"
            lines = [re.sub(rf"(?<![\w.]){name}(?![\w.]|<<<)", own, line) for line in lines]
    return evolve(part, lines=tuple(lines))


def _own_macros(part: Part, before: Sequence[Part]) -> Part:
    """Macros of tune lines, which know no namespace, named differently in every stage."""
    taken = {m[1] for other in before for line in other.lines if (m := _TUNE.match(line))}
    for name in [m[1] for line in part.lines if (m := _TUNE.match(line))]:
        if name in taken:
            part = _renamed(part, name, f"{name}_{len(before) + 1}")
    return part


def _renamed(part: Part, name: str, new: str) -> Part:
    """The part with a word replaced in all code and contract lines."""

    def change(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(re.sub(rf"\b{name}\b", new, text) for text in texts)

    return evolve(
        part,
        lines=change(part.lines),
        constants=tuple((change((text,))[0], why) for text, why in part.constants),
        helpers=change(part.helpers),
        kernels=change(part.kernels),
    )


def _common_helpers(parts: Sequence[Part]) -> list[str]:
    """Helpers that several stages have and that stand by themselves.

    Not those that read a stage's constants or call what stays in a stage; and of overloaded
    functions all or none, as a namespace's own hide the ones outside.
    """
    every = [(helper, part) for part in parts for helper in part.helpers]
    counts = Counter(helper for helper, _ in every)
    common = {helper for helper, count in counts.items() if count > 1}
    # The same function for 8 lanes in some stages, for 32 in others: each keeps its own.
    heads = Counter(_code(helper).partition("{")[0].strip() for helper in common)
    common = {h for h in common if heads[_code(h).partition("{")[0].strip()] == 1}
    while True:
        staying = {
            name
            for helper, part in every
            if helper not in common
            for name in (*_defined(helper), *(_constant_name(d) for d, _ in part.constants))
        }
        staying |= {_constant_name(d) for part in parts for d, _ in part.constants}
        kept = {h for h in common if not staying & set(re.findall(r"\w+", _code(h)))}
        if kept == common:
            return [helper for helper in dict.fromkeys(h for h, _ in every) if helper in common]
        common = kept


def _defined(helper: str) -> set[str]:
    """Names of the functions and types that a helper defines."""
    code = _code(helper)
    names = set(re.findall(r"\b(?:struct|union|enum|using)\s+(\w+)", code))
    return names | set(re.findall(r"^(?=\S)[^\n;=]*?\b(\w+)\(", code, flags=re.MULTILINE))


def _code(helper: str) -> str:
    return re.sub(r"//.*", "", helper)


def _constant_name(definition: str) -> str:
    """``COLS`` of ``constexpr int COLS = 64;``."""
    found = re.search(r"(\w+)\s*(?:\[[^=]*\])?\s*=", definition)
    return found[1] if found else ""


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
