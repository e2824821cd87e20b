"""Where ideas and branches come from. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from attrs import frozen

from search_engine.category import Category
from search_engine.task import Task
from search_engine.verdict import Finding


@frozen
class Idea:
    """One optimisation thought in natural language.

    ``expected`` is the idea's own forecast of the kernel's speedup over eager, or None.
    ``key`` is stable for a proposer's own use (the playbook's file name).
    """

    title: str
    rationale: str
    category: Category
    expected: float | None
    key: str = ""


@frozen
class Branch:
    """One implementation of an idea: a ``.cu`` file in the contract, and what is special to it."""

    source: str
    label: str = ""


@frozen
class Seed:
    """A verified kernel that the next round starts from."""

    kernel_id: int
    source: str
    idea: Idea
    seconds: float


@frozen
class Tried:
    """An idea that was tried, with its outcome. ``best_seconds`` is None if none was verified."""

    round: int
    idea: Idea
    branches: int
    accepted: int
    best_seconds: float | None
    findings: tuple[Finding, ...]  # the first of each rejected branch
    labels: tuple[str, ...] = ()  # of the branches tried
    best_label: str = ""


@frozen
class History:
    """What a proposer knows of the run so far."""

    round: int  # the round now asked for, from 1
    tried: tuple[Tried, ...]
    seeds: tuple[Seed, ...]
    best_seconds: float | None
    limit_seconds: float


class Proposer(ABC):
    """A source of ideas and branches."""

    name: str

    @abstractmethod
    def ideas(self, task: Task, history: History, count: int) -> Sequence[Idea]:
        """Up to ``count`` ideas that were not tried yet; empty when there is nothing new."""

    @abstractmethod
    def branches(self, task: Task, idea: Idea, history: History, count: int) -> Sequence[Branch]:
        """Up to ``count`` different implementations of ``idea``."""

    def repair(self, task: Task, branch: Branch, findings: Sequence[Finding]) -> Branch | None:
        """A mended branch after a rejection, None where the proposer cannot."""
        return None

    def unsupported(self, task: Task) -> str | None:
        """Why this proposer has nothing for the task: the operator by name, in one sentence."""
        return None
