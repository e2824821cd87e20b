"""Everything that the playbook has for a task, as candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from search_engine.hardware import DeviceFacts
from search_engine.playbook.analyse import analyse
from search_engine.playbook.candidate import Candidate, Single
from search_engine.playbook.idea import PlaybookIdea
from search_engine.playbook.ideas import ALL
from search_engine.playbook.pipeline import Pipeline
from search_engine.playbook.plan import Plan, Stage, plans
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
    offered = plans(task, facts, lambda nest: best_seconds(nest, facts))
    base = offered[0]
    if len(base.stages) == 1:
        return singles(base.stages[0].program, facts)
    return [*_of_plan(base, facts), *_of_others(offered, facts)]


def singles(program: Program, facts: DeviceFacts) -> list[Candidate]:
    """Every idea that applies to one loop nest."""
    return [Single(idea, program, facts) for idea in ALL if idea.applies(program, facts)]


def best_seconds(program: Program, facts: DeviceFacts) -> float:
    """The least time that any idea promises for a nest; infinity where none applies."""
    ranked = _ranked(program, facts)
    return ranked[0][0] if ranked else float("inf")


def _ranked(program: Program, facts: DeviceFacts) -> list[tuple[float, PlaybookIdea]]:
    """The ideas that apply, the fastest first."""
    found = [
        (single.best_seconds(), single.idea)
        for single in singles(program, facts)
        if isinstance(single, Single)
    ]
    return sorted((pair for pair in found if pair[0] < float("inf")), key=lambda pair: pair[0])


def _of_plan(plan: Plan, facts: DeviceFacts) -> Iterator[Candidate]:
    """The plan with every stage's best idea, then with one stage done another way."""
    ranked = [_ranked(stage.program, facts) for stage in plan.stages]
    best = tuple(choices[0][1] for choices in ranked)
    yield Pipeline(plan, best, facts)
    for position, choices in enumerate(ranked):
        for seconds, idea in choices[1 : 1 + _OTHERS]:
            if seconds <= _FAR * choices[0][0]:
                ideas = (*best[:position], idea, *best[position + 1 :])
                yield Pipeline(plan, ideas, facts, role=position + 1)


def _of_others(offered: Sequence[Plan], facts: DeviceFacts) -> Iterator[Candidate]:
    """The next best plans, each with its stages' best ideas."""
    base = offered[0]
    for plan in offered[1:]:
        if len(plan.stages) > 1:
            ideas = tuple(_best_idea(stage, facts) for stage in plan.stages)
            yield Pipeline(plan, ideas, facts, role=-1, base=base)


def _best_idea(stage: Stage, facts: DeviceFacts) -> PlaybookIdea:
    return _ranked(stage.program, facts)[0][1]
