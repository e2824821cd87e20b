"""A plan of several launches as one candidate: an idea for each stage, with all their knobs."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from search_engine.category import Category
from search_engine.hardware import DeviceFacts
from search_engine.playbook import words
from search_engine.playbook.candidate import Candidate
from search_engine.playbook.idea import Knob, Knobs, PlaybookIdea, Variant
from search_engine.playbook.plan import Plan, Stage
from search_engine.playbook.source import printed_stages

_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@frozen
class Pipeline(Candidate):
    """Ideas for the stages of a plan, one each.

    Knobs are those of the stages, with the stage's number in front: ``2.threads``. ``role``
    says what tells the candidate apart: nothing for the best plan with the best ideas, the
    number of a stage that is done another way, or -1 for another plan; ``base`` is the best
    plan.
    """

    plan: Plan
    ideas: tuple[PlaybookIdea, ...]
    facts: DeviceFacts
    role: int = 0
    base: Plan | None = None

    @property
    def key(self) -> str:
        """The cuts and the stages' ideas."""
        return f"stages:{self.plan.key}:{'+'.join(idea.key for idea in self.ideas)}"

    @property
    def _stages(self) -> list[tuple[int, Stage, PlaybookIdea]]:
        pairs = zip(self.plan.stages, self.ideas, strict=True)
        return [(number, stage, idea) for number, (stage, idea) in enumerate(pairs, 1)]

    @property
    def title(self) -> str:
        """What runs in which order."""
        count = len(self.ideas)
        number = _COUNTS[count] if count < len(_COUNTS) else str(count)
        done = self._order(self.plan)
        text = f"{number.capitalize()} launches: {done}"
        if self.role < 0 and self.base and (" more" in done or done == self._order(self.base)):
            cuts = words.listed([str(cut) for cut in self.plan.cuts])
            text += f"; cut after {cuts} operator{'' if cuts == '1' else 's'}"
        if self.role > 0:
            text += f"; launch {self.role}: {lowered(self.ideas[self.role - 1].title)}"
        return text

    @property
    def category(self) -> Category:
        """Of what tells the candidate apart."""
        return self.ideas[self.role - 1].category if self.role > 0 else "memory access"

    @property
    def knobs(self) -> Knobs:
        """Every stage's, prefixed by its number."""
        found: dict[str, tuple[tuple[Knob, ...], Category, str]] = {}
        for number, stage, idea in self._stages:
            for name, (values, category, reason) in idea.knobs.items():
                about = f"In launch {number} ({self._does(stage)}): {lowered(reason)}"
                found[f"{number}.{name}"] = (values, category, about)
        return found

    def why(self) -> str:
        """What each launch does, what passes between them, and where the time goes."""
        runs = (
            f"It runs as {words.listed([f'{n}. {self._does(s)}' for n, s, _ in self._stages])}, "
            f"each launch with the pointwise work around it."
        )
        slowest = max(self._stages, key=lambda entry: self._stage_seconds(*entry))
        number, stage, idea = slowest
        share = self._stage_seconds(*slowest) / self.best_seconds()
        time = f"Launch {number} ({self._does(stage)}) should take {share:.0%} of the time"
        if number != self.role:
            time += f": {lowered(idea.why(stage.program, self.facts))}"
        text = f"{self._told_apart()}The graph is no single loop nest{self._passing(runs)} {time}"
        return text if text.endswith(".") else f"{text}."

    def _passing(self, runs: str) -> str:
        """Why there are several nests, ``runs``, and what goes from one to the next."""
        passed = self.plan.scratch_bytes
        if not passed:
            return f": its parts share no loops. {runs}"
        text = (
            f": what one part computes is read along other dimensions, or several times, by the "
            f"next. {runs} {words.size(passed)} pass between them through scratch memory"
        )
        if 2 * passed <= self.facts.l2_bytes:
            return f"{text}, most of which stays in L2."
        moved = words.time(2 * passed / self.facts.dram_bytes_per_second)
        return f"{text}, {moved} to write and read again at the copy bandwidth."

    def _told_apart(self) -> str:
        """What differs from the best plan, and what that costs and saves."""
        if self.role > 0:
            stage, idea = self.plan.stages[self.role - 1], self.ideas[self.role - 1]
            return (
                f"Launch {self.role} ({self._does(stage)}) done another way: "
                f"{lowered(idea.why(stage.program, self.facts))} "
            )
        if self.role == 0 or self.base is None:
            return ""
        more = len(self.plan.stages) - len(self.base.stages)
        difference = self.plan.scratch_bytes - self.base.scratch_bytes
        size = words.size(abs(difference))
        memory = "as much scratch memory"
        if difference:
            memory = f"{size} {'more' if difference > 0 else 'less'} of scratch memory"
        if more > 0:
            return (
                f"Store an intermediate instead of computing it where it is read: "
                f"{_number(more)} more to launch and {memory}, but each launch has less to do "
                f"per element. "
            )
        if more < 0:
            return (
                f"Compute an intermediate where it is read instead of storing it: "
                f"{_number(-more)} fewer to launch and {memory}. "
            )
        return f"Cut the graph at another place: as many launches, {memory}. "

    @classmethod
    def _order(cls, plan: Plan) -> str:
        """``linear + gelu → softmax``."""
        return " → ".join(cls._does(stage) for stage in plan.stages)

    @staticmethod
    def _does(stage: Stage) -> str:
        """``linear + gelu``; of many operators the first three."""
        names = list(dict.fromkeys(op.strip("_") for op in stage.operators))
        return " + ".join(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])

    def _stage_seconds(self, number: int, stage: Stage, idea: PlaybookIdea) -> float:
        variants = idea.variants(stage.program, self.facts)
        return min(idea.seconds(stage.program, v, self.facts) for v in variants)

    def variants(self) -> Sequence[Variant]:
        """Every stage at its best, then each stage's next settings, one stage at a time."""
        offered = [
            list(idea.variants(stage.program, self.facts)) for _, stage, idea in self._stages
        ]
        if not all(offered):
            return []
        best = [settings[0] for settings in offered]
        found = [joined(best)]
        for place in range(1, max(len(settings) for settings in offered)):
            for position, settings in enumerate(offered):
                if place < len(settings):
                    found.append(joined([*best[:position], settings[place], *best[position + 1 :]]))
        rest = sorted(found[1:], key=self.seconds)
        return [found[0], *rest[:7]]

    def valid(self, variant: Variant) -> bool:
        """Whether every stage accepts its setting."""
        return all(
            idea.valid(stage.program, own, self.facts)
            for (_, stage, idea), own in zip(self._stages, self._parted(variant), strict=True)
        )

    def seconds(self, variant: Variant) -> float:
        """The stages' times, one after the other."""
        return sum(
            idea.seconds(stage.program, own, self.facts)
            for (_, stage, idea), own in zip(self._stages, self._parted(variant), strict=True)
        )

    def render(self, variant: Variant) -> str:
        """One file with every stage's kernels."""
        parts = [
            (stage.name, idea.write(stage.program, own, self.facts))
            for (_, stage, idea), own in zip(self._stages, self._parted(variant), strict=True)
        ]
        lines = [line for stage in self.plan.stages for line in stage.lines]
        told = [f"{number}. {self._does(stage)}" for number, stage, _ in self._stages]
        comment = f"{len(parts)} launches, one after the other: {words.listed(told)}."
        return printed_stages(comment, lines, parts)

    def _parted(self, variant: Variant) -> list[Variant]:
        """The setting of each stage."""
        found: list[list[tuple[str, Knob]]] = [[] for _ in self.ideas]
        for name, value in variant.knobs:
            number, _, knob = name.partition(".")
            found[int(number) - 1].append((knob, value))
        return [Variant(tuple(knobs)) for knobs in found]


def _number(count: int) -> str:
    return _COUNTS[count] if count < len(_COUNTS) else str(count)


def joined(variants: Sequence[Variant]) -> Variant:
    """The stages' settings as one, knobs prefixed by the stage's number."""
    return Variant(
        tuple(
            (f"{number}.{name}", value)
            for number, variant in enumerate(variants, 1)
            for name, value in variant.knobs
        )
    )


def lowered(text: str) -> str:
    """A sentence as it goes on behind a colon; names in capitals stay."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
