"""What a proposer chooses from: an idea for the loop nest, or for each nest of a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from attrs import frozen

from search_engine.category import Category
from search_engine.hardware import DeviceFacts
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.program import Program


class Candidate(ABC):
    """An idea that is bound to a task and a device.

    ``key`` is stable, without slashes, and different from every other candidate's.
    """

    @property
    @abstractmethod
    def key(self) -> str:
        """Finds the candidate again in a later round."""

    @property
    @abstractmethod
    def title(self) -> str:
        """One line."""

    @property
    @abstractmethod
    def category(self) -> Category:
        """Of the six."""

    @property
    @abstractmethod
    def knobs(self) -> Knobs:
        """What may be turned."""

    @abstractmethod
    def why(self) -> str:
        """The rationale, with the task's own numbers."""

    @abstractmethod
    def variants(self) -> Sequence[Variant]:
        """Settings worth trying first, the most promising first."""

    @abstractmethod
    def valid(self, variant: Variant) -> bool:
        """Whether the setting fits."""

    @abstractmethod
    def seconds(self, variant: Variant) -> float:
        """The predicted time."""

    @abstractmethod
    def render(self, variant: Variant) -> str:
        """The ``.cu`` text."""

    def best_seconds(self) -> float:
        """The least predicted time of a first variant; infinity where there is none."""
        return min((self.seconds(v) for v in self.variants()), default=float("inf"))


@frozen
class Single(Candidate):
    """One idea of the playbook for a task that is one loop nest."""

    idea: PlaybookIdea
    program: Program
    facts: DeviceFacts

    @property
    def key(self) -> str:
        """The idea's file name."""
        return self.idea.key

    @property
    def title(self) -> str:
        """The idea's."""
        return self.idea.title

    @property
    def category(self) -> Category:
        """The idea's."""
        return self.idea.category

    @property
    def knobs(self) -> Knobs:
        """The idea's."""
        return self.idea.knobs

    def why(self) -> str:
        """The idea's rationale for the program."""
        return self.idea.why(self.program, self.facts)

    def variants(self) -> Sequence[Variant]:
        """The idea's first settings."""
        return self.idea.variants(self.program, self.facts)

    def valid(self, variant: Variant) -> bool:
        """Whether the idea accepts the setting."""
        return self.idea.valid(self.program, variant, self.facts)

    def seconds(self, variant: Variant) -> float:
        """The idea's prediction."""
        return self.idea.seconds(self.program, variant, self.facts)

    def render(self, variant: Variant) -> str:
        """The idea's kernel."""
        return self.idea.render(self.program, variant, self.facts)
