"""What an idea of the playbook is: text, when it applies, and variants it can render."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

from attrs import frozen

from search_engine.category import Category
from search_engine.hardware import DeviceFacts
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part, printed

Knob: TypeAlias = "int | str"
# What turning each knob is about: its values, its category, and why one would turn it.
Knobs: TypeAlias = "Mapping[str, tuple[tuple[Knob, ...], Category, str]]"


@frozen
class Variant:
    """One setting of an idea's knobs; its label is what the store and the hover show."""

    knobs: tuple[tuple[str, Knob], ...]

    @classmethod
    def of(cls, **knobs: Knob) -> Variant:
        """The variant with these settings."""
        return cls(tuple(knobs.items()))

    @property
    def label(self) -> str:
        """``threads=256, vector=4``; ``parse`` reads it back."""
        return ", ".join(f"{name}={value}" for name, value in self.knobs)

    @classmethod
    def parse(cls, label: str) -> Variant:
        """The variant of a label."""
        found = re.findall(r"([\w.]+)=(-?\w+)", label)
        return cls(tuple((k, int(v) if re.fullmatch(r"-?\d+", v) else v) for k, v in found))

    def number(self, name: str) -> int:
        """A knob that is a number."""
        value = dict(self.knobs)[name]
        assert isinstance(value, int), f"{name} is {value!r}"
        return value

    def word(self, name: str) -> str:
        """A knob that is a word."""
        return str(dict(self.knobs)[name])

    def changed(self, name: str, value: Knob) -> Variant:
        """The same with one knob turned."""
        return Variant(tuple((k, value if k == name else v) for k, v in self.knobs))


class PlaybookIdea(ABC):
    """One optimisation idea. Subclasses live one to a file in ``ideas``."""

    key: ClassVar[str]
    title: ClassVar[str]
    category: ClassVar[Category]
    knobs: ClassVar[Knobs]

    @abstractmethod
    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Whether the idea can be carried out for the program on the device."""

    @abstractmethod
    def why(self, program: Program, facts: DeviceFacts) -> str:
        """The rationale, with the program's own numbers."""

    @abstractmethod
    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Settings worth trying first, the most promising first, each a different kernel."""

    @abstractmethod
    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """Whether the setting fits the program and the device."""

    @abstractmethod
    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """The predicted time of the kernel."""

    @abstractmethod
    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel: launch and scratch lines, constants, helpers, device code."""

    def render(self, program: Program, variant: Variant, facts: DeviceFacts) -> str:
        """The ``.cu`` text in the contract."""
        return printed(self.write(program, variant, facts))
