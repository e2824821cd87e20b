"""Everything that the playbook has for a task, as candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import evolve

from search_engine.hardware import DeviceFacts
from search_engine.playbook.analyse import analyse
from search_engine.playbook.candidate import Candidate, Single
from search_engine.playbook.expression import Expression, Load, rewrite
from search_engine.playbook.idea import PlaybookIdea
from search_engine.playbook.ideas import ALL
from search_engine.playbook.pipeline import Pipeline
from search_engine.playbook.plan import Plan, plans
from search_engine.playbook.program import Program, Unsupported
from search_engine.task import Task

_OTHERS = 2  # further ideas that are offered for each stage of the best plan
_FAR = 3.0  # times the best idea's time that such a further idea may take


def candidates(task: Task, facts: DeviceFacts) -> Sequence[Candidate]:
    """What may be proposed for the task; at least one candidate.

    A task that is one loop nest gets every idea that applies to it, any other one plans of
    several launches. Raises Unsupported, naming the first operator that nothing covers.
    """
    try:
        program = analyse(task)
    except Unsupported:
        program = None
    if program is not None:
        found = singles(program, facts)
        if found:
            return found
    ranking = Ranking(facts)
    offered = plans(task, facts, ranking.best_seconds)
    base = offered[0]
    if len(base.stages) == 1:
        return singles(base.stages[0].program, facts)
    return [*_of_plan(base, ranking), *_of_others(offered, ranking)]


def singles(program: Program, facts: DeviceFacts) -> list[Single]:
    """Every idea that applies to one loop nest."""
    return [Single(idea, program, facts) for idea in ALL if idea.applies(program, facts)]


class Ranking:
    """The ideas that apply to a loop nest by predicted time.

    Nests that differ only in the names of their tensors are asked for once: layers repeat.
    """

    def __init__(self, facts: DeviceFacts) -> None:
        self.facts = facts
        self._known: dict[Program, list[tuple[float, PlaybookIdea]]] = {}

    def of(self, program: Program) -> list[tuple[float, PlaybookIdea]]:
        """(seconds, idea), the fastest first."""
        nameless = without_names(program)
        if nameless not in self._known:
            found = [(s.best_seconds(), s.idea) for s in singles(program, self.facts)]
            found = [pair for pair in found if pair[0] < float("inf")]
            self._known[nameless] = sorted(found, key=lambda pair: pair[0])
        return self._known[nameless]

    def best_seconds(self, program: Program) -> float:
        """The least time that any idea promises; infinity where none applies."""
        ranked = self.of(program)
        return ranked[0][0] if ranked else float("inf")


def _of_plan(plan: Plan, ranking: Ranking) -> Iterator[Candidate]:
    """The plan with every stage's best idea, then with one stage done another way."""
    ranked = [ranking.of(stage.program) for stage in plan.stages]
    best = tuple(choices[0][1] for choices in ranked)
    yield Pipeline(plan, best, ranking.facts)
    for position, choices in enumerate(ranked):
        for seconds, idea in choices[1 : 1 + _OTHERS]:
            if seconds <= _FAR * choices[0][0]:
                ideas = (*best[:position], idea, *best[position + 1 :])
                yield Pipeline(plan, ideas, ranking.facts, role=position + 1)


def _of_others(offered: Sequence[Plan], ranking: Ranking) -> Iterator[Candidate]:
    """The next best plans, each with its stages' best ideas."""
    for plan in offered[1:]:
        if len(plan.stages) > 1:
            ideas = tuple(ranking.of(stage.program)[0][1] for stage in plan.stages)
            yield Pipeline(plan, ideas, ranking.facts, role=-1, base=offered[0])


def without_names(program: Program) -> Program:
    """The program with its tensors numbered, in the order in which they are read and written."""
    numbers: dict[str, str] = {}

    def numbered(name: str) -> str:
        return numbers.setdefault(name, f"t{len(numbers)}")

    def rename(node: Expression) -> Expression | None:
        return evolve(node, tensor=numbered(node.tensor)) if isinstance(node, Load) else None

    stores = tuple(
        evolve(store, value=rewrite(store.value, rename), tensor=numbered(store.tensor))
        for store in program.stores
    )
    return evolve(program, stores=stores)
