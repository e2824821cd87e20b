"""How the playbook's refinements name settings and changes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from search_engine.playbook import words
from search_engine.playbook.idea import Knob

# Settings that say nothing as a knob and a value.
_WORDS = {
    ("once", "yes"): "streaming hints",
    ("once", "no"): "no streaming hints",
    ("prefetch", "yes"): "prefetch of the next row",
    ("prefetch", "no"): "no prefetch",
    ("back", "yes"): "second reading backwards",
    ("back", "no"): "second reading forwards",
    ("order", "reversed"): "second reading backwards",
    ("order", "forward"): "second reading forwards",
    ("waves", "0"): "a block for every tile",
    ("waves", "1"): "a grid that fills the chip once",
    ("waves", "4"): "a grid that fills the chip four times",
}
_PER_CENT = frozenset({"registers", "parked", "held"})


def short(title: str) -> str:
    """A title without what follows its main clause, for what refines the idea."""
    return re.split(r", | between | into ", title)[0]


def setting(knob: str, value: Knob) -> str:
    """``packs 4``, ``registers 50%``, ``no streaming hints``, ``threads 256 in launch 2``."""
    launch, name = _launch(knob)
    return _WORDS.get((name, str(value)), f"{name} {value}{_unit(name)}") + launch


def turned_to(knob: str, values: Sequence[Knob], before: Knob) -> str:
    """``packs 1 or 4 instead of 2``: a knob's other values, as people say them."""
    launch, name = _launch(knob)
    if (name, str(before)) in _WORDS:
        return words.listed([setting(name, value) for value in values], "or") + launch
    listed = words.listed([f"{value}{_unit(name)}" for value in values], "or")
    return f"{name} {listed} instead of {before}{_unit(name)}{launch}"


def _launch(knob: str) -> tuple[str, str]:
    """`` in launch 2`` and the plain name of ``2.threads``."""
    number, _, name = knob.rpartition(".")
    return (f" in launch {number}" if number else ""), name


def _unit(name: str) -> str:
    return "%" if name in _PER_CENT else ""
