"""References: inputs of a draw, eager's answer and the fp64 answer.

Where a kernel could read the host's memory through the device (a GPU), the answers are
computed after the kernel ran and thrown away, and every kernel gets fresh secret inputs.
Where it runs in a locked-down process of its own (the cpu device), they are computed once
and kept for the candidates to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from attrs import define, field, frozen

from search_engine.capture.call import Call
from search_engine.capture.captured import Captured
from search_engine.capture.values import DOMAINS, Domain
from search_engine.verify.errors import ErrorSums, all_finite
from search_engine.verify.indices import Place, Places
from search_engine.verify.recast import CannotRecast, Recast

_KEPT_BYTES = 2**30  # of inputs and answers of one session
_REPEATED = 1e4  # eps by which two runs of eager may differ: atomics, one in TF32 and one not


@frozen
class Inputs:
    """What a kernel reads in one draw, by contract name, and the call that it stands for."""

    distribution: str
    seed: int
    call: Call
    tensors: dict[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


@define
class Answers:
    """Outputs by contract name: eager's in the task's dtype, and fp64's.

    ``exact`` is eager's own where the module does not run in fp64. ``finite`` says of each
    floating output whether both are numbers throughout. ``told`` holds eager's errors in
    float64 outputs as its answer in fp32 tells them, empty where it has none. ``places``
    says what outputs that are indices point into: eager's values, and fp64's.
    """

    eager: dict[str, torch.Tensor]
    exact: dict[str, torch.Tensor]
    told: dict[str, ErrorSums] = field(factory=dict)
    places: dict[str, tuple[Place, Place]] = field(factory=dict)
    finite: dict[str, bool] = field(init=False)
    _eager_errors: dict[str, ErrorSums] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.finite = {
            name: all_finite(exact) and all_finite(self.eager[name])
            for name, exact in self.exact.items()
            if exact.is_floating_point()
        }

    def errors(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, ErrorSums]:
        """Errors of the floating outputs against fp64."""
        return {
            name: ErrorSums.of(outputs[name], self.exact[name], finite=finite)
            for name, finite in self.finite.items()
        }

    @property
    def eager_errors(self) -> dict[str, ErrorSums]:
        """Eager's own errors, taken once.

        Of a float64 output the one told from fp32, unless eager is seen to be further off:
        where forward itself goes through a narrower dtype.
        """
        if self._eager_errors is None:
            seen = self.errors(self.eager)
            told = {n: t for n, t in self.told.items() if t.relative >= seen[n].relative}
            self._eager_errors = seen | told
        return self._eager_errors

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        pointed = [place.values for pair in self.places.values() for place in pair]
        both = [*self.eager.values(), *self.exact.values(), *pointed]
        return sum(t.numel() * t.element_size() for t in both)


class Refused(Exception):
    """The module's forward raises on these values; the message is the error's class."""


class Dropped(Exception):
    """A distribution on which eager itself has no answer; the message says why."""


class Stateful(Exception):
    """Eager's answers on the same inputs differ from call to call: there is no right one."""


@define
class _Kept:
    inputs: Inputs
    answers: Answers


class Reference:
    """Draws and answers for one captured module at one size.

    ``keep`` holds on to them; then the same seeds must be used for every candidate.
    """

    def __init__(self, captured: Captured, *, keep: bool) -> None:
        self.captured = captured
        self._keep = keep
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._kept_bytes = 0
        self._domains: dict[str, Domain] = {}
        self._dropped: dict[str, str] = {}
        self._repeatable: bool | None = None
        self._doubled: Recast | None = None
        self._narrowed: Recast | None = None
        self.no_fp64: str | None = None  # why there is no fp64 reference
        self.no_fp32: str | None = None  # why eager's error in fp64 cannot be told from fp32
        self._indices = any(output.dtype == "int64" for output in captured.task.outputs)
        self.float64 = any(output.dtype == "float64" for output in captured.task.outputs)

    def inputs(self, distribution: str, seed: int) -> Inputs:
        """The draw. Raises Dropped where eager is known to have no answer on it."""
        if distribution in self._dropped:
            raise Dropped(self._dropped[distribution])
        kept = self._kept.get((distribution, seed))
        if kept is not None:
            return kept.inputs
        return self._draw(distribution, seed, self.domain(distribution))

    def answers(self, inputs: Inputs) -> Answers:
        """Eager's and the fp64 answer on a draw.

        Raises Dropped where eager has none.
        """
        kept = self._kept.get((inputs.distribution, inputs.seed))
        if kept is not None:
            return kept.answers
        self._set_state(inputs)
        try:
            answers = self.evaluate(inputs.call)
        except Refused as error:
            raise Dropped(f"forward raises {error}") from error
        reason = unusable(answers)
        if reason is not None:
            raise Dropped(reason)
        self._tell(inputs, answers)
        self._store(inputs, answers)
        return answers

    def prepare(self, distribution: str, seed: int) -> None:
        """Find out once on which domain eager has answers for ``distribution``.

        The draw is made and answered here. Where a kernel could find what is left of that
        in memory, ``seed`` must be none that the kernel is checked on. Raises Dropped where
        eager has no answer on any domain, Stateful where it has another one at each call.
        """
        if distribution in self._dropped:
            raise Dropped(self._dropped[distribution])
        if distribution in self._domains:
            return
        reason = ""
        for domain in DOMAINS[DOMAINS.index(self.captured.accepts) :]:
            inputs = self._draw(distribution, seed, domain)
            self._set_state(inputs)
            try:
                answers = self.evaluate(inputs.call)
            except Refused as error:
                reason = f"forward raises {error}"
                continue
            unfit = unusable(answers)
            if unfit is None:
                self._require_repeatable(inputs.call, answers)
                self._domains[distribution] = domain
                self._tell(inputs, answers)
                self._store(inputs, answers)
                return
            reason = reason or unfit
            if distribution == "default":
                break
        self._dropped[distribution] = reason
        raise Dropped(reason)

    def domain(self, distribution: str) -> Domain:
        """The domain found by ``prepare``."""
        return self._domains.get(distribution, self.captured.accepts)

    def evaluate(self, call: Call) -> Answers:
        """Both answers on any call, under the parameters as they are now. Raises Refused."""
        seen, wide = Places(), Places()
        try:
            with seen if self._indices else nullcontext():
                eager = self.captured.run(call)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the device's trouble, not the values'
        except Exception as error:
            raise Refused(type(error).__name__) from error
        if self.no_fp64 is None:
            try:
                self._doubled = self._doubled or Recast.doubled(self.captured)
                with wide if self._indices else nullcontext():
                    exact = self._doubled.run(call)
                rounded, precise = seen.of(eager), wide.of(exact)
                places = {n: (rounded[n], precise[n]) for n in rounded if n in precise}
                return Answers(eager, exact, places=places)
            except CannotRecast as error:
                self.no_fp64 = str(error)
        exact = {n: t.double() if t.is_floating_point() else t for n, t in eager.items()}
        return Answers(eager, exact)

    def _require_repeatable(self, call: Call, answers: Answers) -> None:
        """Raises Stateful where a second run is further off than any order of a sum.

        State that capture does not see (in a list, in a global) would count as eager's error,
        and widen the bound by it.
        """
        if self._repeatable is None:
            again = self.captured.run(call)
            self._repeatable = all(
                _near(again[name], answers.eager[name], finite=finite)
                for name, finite in answers.finite.items()
            )
        if not self._repeatable:
            raise Stateful

    def _tell(self, inputs: Inputs, answers: Answers) -> None:
        """Eager's error in float64 outputs, of which it is itself the reference."""
        if not self.float64 or self.no_fp32 is not None or self.no_fp64 is not None:
            return
        try:
            self._narrowed = self._narrowed or Recast.narrowed(self.captured)
            narrow = self._narrowed.run(inputs.call)
        except CannotRecast as error:
            self.no_fp32 = str(error)
            return
        for name, eager in answers.eager.items():
            if eager.dtype is torch.float64 and narrow[name].shape == eager.shape:
                answers.told[name] = ErrorSums.from_float32(narrow[name], answers.exact[name])

    def _set_state(self, inputs: Inputs) -> None:
        self.captured.randomise(inputs.seed, inputs.distribution)

    def _draw(self, distribution: str, seed: int, domain: Domain) -> Inputs:
        call = self.captured.draw(seed, distribution, domain)
        self.captured.randomise(seed, distribution)
        tensors = {name: t.clone() for name, t in self.captured.tensors(call).items()}
        return Inputs(distribution, seed, call, tensors)

    def _store(self, inputs: Inputs, answers: Answers) -> None:
        nbytes = inputs.nbytes + answers.nbytes
        if self._keep and self._kept_bytes + nbytes <= _KEPT_BYTES:
            self._kept[inputs.distribution, inputs.seed] = _Kept(inputs, answers)
            self._kept_bytes += nbytes


def _near(a: torch.Tensor, b: torch.Tensor, *, finite: bool) -> bool:
    eps = torch.finfo(b.dtype).eps
    if a.shape != b.shape:
        return False
    return ErrorSums.of(a, b.double(), finite=finite).relative <= min(_REPEATED * eps, 0.1)


def unusable(answers: Answers) -> str | None:
    """Why no kernel can be judged by these answers; None where one can."""
    for name, finite in answers.finite.items():
        if finite:
            continue
        eager, exact = answers.eager[name], answers.exact[name]
        if bool(eager.isnan().any()):
            return f"eager gives NaN in {name}"
        if eager.numel() and not bool(torch.isfinite(eager).any()):
            return f"eager gives no finite number in {name}"
        if not torch.equal(torch.isinf(eager), torch.isinf(exact)):
            return f"eager overflows in {name}"
    return None
