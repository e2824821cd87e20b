"""The built-in proposer: ideas of the playbook, then refinements of what measured best."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

from attrs import field, frozen, mutable

from search_engine.errors import SetupError
from search_engine.hardware import DeviceFacts, gpu_by_name
from search_engine.playbook import catalogue, cost, words
from search_engine.playbook.candidate import Candidate
from search_engine.playbook.idea import Knob, Variant
from search_engine.playbook.program import Unsupported
from search_engine.proposers._base import Branch, History, Idea, Proposer, Tried
from search_engine.proposers.playbook_words import setting, short, turned_to
from search_engine.task import Task

_log = logging.getLogger(__name__)

_FAR = 5.0  # ideas predicted to take this many times the best are not proposed
_HOPELESS = 1.25  # nor refinements that should take this many times what they start from


@frozen
class _Key:
    """An idea's key: the candidate's, and for a refinement the knob and where it starts."""

    idea: str
    knob: str = ""
    start: str = ""  # the label of the variant that is refined

    def __str__(self) -> str:
        return self.idea if not self.knob else f"{self.idea}/{self.knob}/{self.start}"

    @classmethod
    def parse(cls, text: str) -> _Key:
        parts = text.split("/", 2)
        return cls(*parts)


@mutable
class Playbook(Proposer):
    """Proposes without a model: analyses the graph once, ranks by a small time model.

    What it proposes are the catalogue's candidates: ideas for one loop nest, or plans of
    several launches.

    The first rounds take ideas as they are, the most promising first. Later ones turn one
    knob of the best variants at a time and say what those measured.
    """

    facts: DeviceFacts  # of the device that runs the kernels
    name: str = field(default="playbook", init=False)
    _known: tuple[Task, Sequence[Candidate] | str] | None = field(default=None, init=False)

    # --- protocol ---------------------------------------------------------------------

    def unsupported(self, task: Task) -> str | None:
        """Why the playbook has nothing for the task, naming the operator."""
        found = self._candidates(task)
        return found if isinstance(found, str) else None

    def ideas(self, task: Task, history: History, count: int) -> Sequence[Idea]:
        """Untried ideas by predicted time, then refinements of the best by measured time."""
        candidates = self._candidates(task)
        if isinstance(candidates, str):
            return []
        tried = {t.idea.key for t in history.tried}
        eager = cost.eager_seconds(task, self.facts)
        ranked = sorted(((c.best_seconds(), c) for c in candidates), key=lambda pair: pair[0])
        near = [(s, c) for s, c in ranked if s <= _FAR * ranked[0][0] and c.key not in tried]
        ideas = [_first(candidate, eager / seconds) for seconds, candidate in near[:count]]
        if len(ideas) < count:
            refined = self._refinements(candidates, history, eager)
            ideas += [idea for _, idea in zip(range(count - len(ideas)), refined, strict=False)]
        return ideas

    def branches(self, task: Task, idea: Idea, history: History, count: int) -> Sequence[Branch]:
        """Variants of the idea that render to texts not tried before."""
        candidates = self._candidates(task)
        if isinstance(candidates, str):
            return []
        key = _Key.parse(idea.key)
        candidate = _by_key(candidates, key.idea)
        if candidate is None:
            return []
        seen = _sources(candidates, history)
        branches: list[Branch] = []
        fault: Exception | None = None
        for variant in _variants(candidate, key):
            source = _written(candidate, variant)
            if isinstance(source, Exception):
                fault = fault or source
                continue
            if normalised(source) in seen:
                continue
            seen.add(normalised(source))
            branches.append(Branch(source=source, label=variant.label))
            if len(branches) == count:
                break
        if fault is not None and not branches:
            raise fault
        return branches

    # --- what there is ----------------------------------------------------------------

    def _candidates(self, task: Task) -> Sequence[Candidate] | str:
        """Everything that applies to the task, or the sentence that says why nothing does."""
        if self._known is None or self._known[0] is not task:
            self._aim(task)
            try:
                self._known = (task, catalogue.candidates(task, self.facts))
            except Unsupported as reason:
                self._known = (task, str(reason))
        return self._known[1]

    def _aim(self, task: Task) -> None:
        """Write for the task's GPU: a device without one has fewer multiprocessors of its own."""
        with suppress(SetupError):
            self.facts = gpu_by_name(task.target)

    # --- refinements ------------------------------------------------------------------

    def _refinements(
        self, candidates: Sequence[Candidate], history: History, eager: float
    ) -> Iterator[Idea]:
        """Two knobs that each helped, together; then single knobs of the best variants."""
        tried = {t.idea.key for t in history.tried}
        seen = _sources(candidates, history)
        measured = [t for t in history.tried if t.best_seconds is not None and t.best_label]
        measured.sort(key=lambda t: t.best_seconds or 0.0)
        for key, text in self._pairs(measured):
            book = _by_key(candidates, key.idea)
            if book is not None and str(key) not in tried:
                fresh = _fresh(book, key, seen)
                if fresh:
                    yield self._refinement(book, key, measured[0], fresh, eager, text)
        starts = list(dict.fromkeys((_Key.parse(t.idea.key).idea, t.best_label) for t in measured))
        turned: set[tuple[str, str]] = set()  # one turn of each knob a round, of the best start
        for name, label in starts[:3]:
            book = _by_key(candidates, name)
            if book is None:
                continue
            outcome = next(t for t in measured if t.best_label == label)
            proposed: list[tuple[float, Idea]] = []
            for knob in book.knobs:
                key = _Key(name, knob, label)
                if str(key) in tried or (name, knob) in turned:
                    continue
                fresh = _fresh(book, key, seen)
                if fresh:
                    turned.add((name, knob))
                    idea = self._refinement(book, key, outcome, fresh, eager)
                    proposed.append((idea.expected or 0.0, idea))
            yield from (idea for _, idea in sorted(proposed, key=lambda pair: -pair[0]))

    @staticmethod
    def _pairs(measured: Sequence[Tried]) -> Iterator[tuple[_Key, str]]:
        """Two refinements of one start that both beat it by different knobs, as one variant."""
        times = {t.best_label: t.best_seconds or 0.0 for t in measured}
        better = []
        for t in measured:
            key = _Key.parse(t.idea.key)
            if key.knob and key.start in times and times[t.best_label] < times[key.start]:
                better.append((key, t))
        for (one, a), (two, b) in itertools.combinations(better, 2):
            if (one.idea, one.start) != (two.idea, two.start) or one.knob == two.knob:
                continue
            value = dict(Variant.parse(b.best_label).knobs)[two.knob]
            both = Variant.parse(a.best_label).changed(two.knob, value)
            text = (
                f"From {times[one.start] * 1e6:,.1f} µs ({one.start}), {one.knob} alone came to "
                f"{times[a.best_label] * 1e6:,.1f} µs and {two.knob} alone to "
                f"{times[b.best_label] * 1e6:,.1f} µs. Here both are "
                f"set."
            )
            yield _Key(one.idea, f"{one.knob}+{two.knob}", both.label), text

    @staticmethod
    def _refinement(
        book: Candidate,
        key: _Key,
        outcome: Tried,
        fresh: Sequence[Variant],
        eager: float,
        text: str = "",
    ) -> Idea:
        start = Variant.parse(outcome.best_label if text else key.start)
        known = {name for name, _ in start.knobs} == set(book.knobs)
        predicted = min(book.seconds(v) for v in fresh)
        modelled = book.seconds(start) if known else predicted
        # What the model says of the change, from what the start came to.
        expected = (outcome.best_seconds or modelled) * predicted / modelled
        if text:
            both = [setting(k, v) for k, v in start.knobs if k in key.knob.split("+")]
            title = f"{short(book.title)}: {words.listed(both)} together"
            category = book.category
        else:
            _, category, reason = book.knobs[key.knob]
            values = [dict(v.knobs)[key.knob] for v in fresh[:3]]
            change = turned_to(key.knob, values, dict(start.knobs)[key.knob])
            title = f"{short(book.title)}: {change}"
            first = dict(book.variants()[0].knobs)
            other = [setting(k, v) for k, v in start.knobs if first.get(k) != v and k != key.knob]
            title += f" ({', '.join(other)})" if other else ""
            came = f"came to {words.time(outcome.best_seconds or 0.0)} in round {outcome.round}"
            if outcome.branches > 1:
                came += f", the best of {outcome.branches} variants"
            text = (
                f"“{short(book.title)}” with {key.start} {came}. {reason} "
                f"Now {change}, all else unchanged."
            )
        return Idea(title, text, category, round(eager / expected, 2), str(key))


def _first(candidate: Candidate, speedup: float) -> Idea:
    """The idea as it is, with its forecast."""
    return Idea(
        title=candidate.title,
        rationale=candidate.why(),
        category=candidate.category,
        expected=round(speedup, 2),
        key=str(_Key(candidate.key)),
    )


def _by_key(candidates: Sequence[Candidate], key: str) -> Candidate | None:
    return next((candidate for candidate in candidates if candidate.key == key), None)


def _fresh(book: Candidate, key: _Key, seen: set[str]) -> list[Variant]:
    """The refinement's variants whose text was not tried."""
    texts = ((v, _text(book, v)) for v in _variants(book, key))
    return [v for v, text in texts if text is not None and text not in seen]


def _text(book: Candidate, variant: Variant) -> str | None:
    """A variant's normalised text, None where it cannot be written."""
    source = _written(book, variant)
    return None if isinstance(source, Exception) else normalised(source)


def _written(book: Candidate, variant: Variant) -> str | Exception:
    """A variant's text, or the fault of ours that writing it ran into: the others go on."""
    try:
        return book.render(variant)
    except Exception as error:  # noqa: BLE001
        _log.exception("%s could not be written with %s", book.title, variant.label)
        return error


def _variants(book: Candidate, key: _Key) -> list[Variant]:
    """An idea's first variants, or a refinement's: the knob's other values, nearest first."""
    if not key.knob:
        return list(book.variants())
    start = Variant.parse(key.start)
    if "+" in key.knob:
        return [start] if book.valid(start) else []
    values = list(book.knobs[key.knob][0])
    before = dict(start.knobs).get(key.knob)
    if before in values:
        place = values.index(before)
        values.sort(key=lambda value: abs(_place(book, key.knob, value) - place))
    turned = (start.changed(key.knob, value) for value in values if value != before)
    valid = [v for v in turned if book.valid(v)]
    # What the model thinks much worse than the start is not worth a place in a round.
    hopeless = _HOPELESS * book.seconds(start)
    return [v for v in valid if book.seconds(v) <= hopeless]


def _place(book: Candidate, knob: str, value: Knob) -> int:
    """A value's place among its knob's values."""
    return list(book.knobs[knob][0]).index(value)


def _sources(candidates: Sequence[Candidate], history: History) -> set[str]:
    """Normalised texts of everything tried: rendering is cheap, so labels suffice."""
    seen = {normalised(seed.source) for seed in history.seeds}
    for tried in history.tried:
        book = _by_key(candidates, _Key.parse(tried.idea.key).idea)
        if book is None:
            continue
        for label in tried.labels:
            variant = Variant.parse(label)
            if {name for name, _ in variant.knobs} == set(book.knobs):
                text = _text(book, variant)
                seen |= set() if text is None else {text}
    return seen


def normalised(source: str) -> str:
    """The text without comments (contract lines stay) and without layout."""
    lines = []
    for line in source.splitlines():
        code, _, comment = line.partition("//")
        contract = comment.strip().startswith(("launch:", "scratch:", "tune:"))
        lines.append(comment.strip() if contract else code.strip())
    return " ".join(" ".join(lines).split())
