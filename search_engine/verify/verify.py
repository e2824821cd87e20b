"""The verdict on a kernel: does it compute what the module computes, to the last bits that count.

A kernel is run on draws of several distributions, each with fresh inputs, parameters and
buffers in fresh guarded memory; its outputs are held against the module in fp64. The
first finding ends it, so wrong kernels are gone after one run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import torch

from search_engine.capture.call import Call
from search_engine.capture.captured import Captured
from search_engine.contract.errors import ContractError
from search_engine.contract.resolve import resolve
from search_engine.devices._base import Device, Execution, Program
from search_engine.errors import SetupError, WorkerDied
from search_engine.verdict import Accuracy, Finding, Verdict
from search_engine.verify import bounds, special
from search_engine.verify.compare import plain_findings, same_bits
from search_engine.verify.draws import Plan
from search_engine.verify.figures import Sums, finding_of, over
from search_engine.verify.nulls import NullKernels
from search_engine.verify.reference import Answers, Dropped, Inputs, Reference, Refused, Stateful
from search_engine.verify.session import Session, session_for

_log = logging.getLogger(__name__)

_SEARCH_SEED = 1 << 40  # apart from the seeds of a plan
_HOPELESS = 100.0  # times the bound: no further draw of the distribution can mend that


def verify(
    captured: Captured, program: Program, device: Device, *, seed: int | None = None
) -> Verdict:
    """Check ``program`` against the module.

    ``seed`` fixes the draws, for tests and to reproduce a verdict; without it they are
    secret. Modules larger than the cpu device can take are checked at a smaller leading
    size, which ``notes`` says. A kernel that kills its process is rejected. Raises
    SetupError where the device has no memory left for the reference.
    """
    started = time.perf_counter()
    session = session_for(captured, device, seed)
    check = _Check(session, program, device, session.plan(captured.task, seed))
    passed = False
    try:
        finding = check.run()
        passed = finding is None
    except WorkerDied as error:
        finding = Finding("fault", str(error))
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"{device.name} has too little free memory to verify {captured.task.qualname}: free "
            "some, or choose another device."
        ) from error
    finally:
        _restore(session, passed=passed)
    return Verdict(
        accepted=finding is None,
        device=device.name,
        findings=() if finding is None else (finding,),
        accuracy=tuple(check.accuracy),
        notes=check.notes(),
        seconds=time.perf_counter() - started,
    )


def _restore(session: Session, *, passed: bool) -> None:
    """The module's own parameters again, unless the device is gone with the kernel.

    Then whatever ended the check is what has to be told, and this process ends anyway.
    After a check that ``passed`` there is nothing else to tell: the error is raised.
    """
    try:
        session.full.captured.restore()
    except RuntimeError:  # torch.AcceleratorError since 2.8
        if passed:
            raise
        _log.warning("the module's parameters could not be put back", exc_info=True)


class _Rejection(Exception):
    """Ends the check; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class _Check:
    """The check of one candidate."""

    def __init__(self, session: Session, program: Program, device: Device, plan: Plan) -> None:
        self._session = session
        self._program = program
        self._device = device
        self._plan = plan
        self._runs = 0
        self._notes: list[str] = []
        self._nulls = NullKernels()
        self.accuracy: list[Accuracy] = []

    def notes(self) -> tuple[str, ...]:
        """Everything worth knowing, each once."""
        session = self._session
        found = [*session.full.captured.task.notes, *session.notes, *self._notes]
        if session.full.no_fp64 is not None:
            found.append(
                f"no fp64 reference ({session.full.no_fp64}): compared with eager itself, within "
                f"{bounds.EAGER_REFERENCE_FACTOR:g} times the floor"
            )
        elif session.full.no_fp32 is not None or session.further.no_fp32 is not None:
            reason = session.full.no_fp32 or session.further.no_fp32
            found.append(
                f"eager is the reference of float64 outputs, and its error cannot be told from "
                f"float32 ({reason}): within {bounds.FLOAT64_ALLOWANCE:g} times the floor"
            )
        elif session.full.float64:
            found.append(
                "eager is the reference of float64 outputs: its error there is that of the same "
                "module in float32, scaled by 2⁻²⁹"
            )
        return tuple(dict.fromkeys([*found, *self._nulls.notes()]))

    def run(self) -> Finding | None:
        """The finding that ends it, None where the kernel passes.

        Small before large: most wrong kernels never see the full size.
        """
        session = self._session
        small = session.further is not session.full
        try:
            try:
                judged = self._all(session.further)
            except _Rejection:
                if not small or not self._made_for_one_size():
                    raise
                small, self._runs, self.accuracy = False, 0, []
                judged = self._all(session.full)
            if small:
                judged |= self._judge(session.full, self._plan.steps[0][0], 1)
        except _Rejection as rejection:
            return rejection.finding
        except Stateful:
            return Finding(
                "no-reference",
                "eager's own results on the same inputs differ from call to call: forward keeps "
                "state between calls, so nothing can be checked",
            )
        if not judged:
            return Finding(
                "no-reference",
                "eager gives no finite answer on any distribution, so nothing can be checked",
            )
        return None

    def _made_for_one_size(self) -> bool:
        """Whether the launches are the same at the smaller size: a kernel may have it built in."""
        kernel, facts, session = self._program.kernel, self._device.facts, self._session
        tasks = (session.full.captured.task, session.further.captured.task)
        try:
            full, further = (resolve(kernel, task, facts) for task in tasks)
        except ContractError:
            return True
        return full == further

    def _all(self, reference: Reference) -> bool:
        """Every check at one size; False where no distribution could be judged."""
        judged = [self._judge(reference, name, count) for name, count in self._plan.steps]
        self._special(reference)
        self._denormals(reference)
        return any(judged)

    # --- distributions ----------------------------------------------------------------

    def _judge(self, reference: Reference, distribution: str, count: int) -> bool:
        seeds = [self._plan.seed_of(distribution, index) for index in range(count)]
        try:
            reference.prepare(
                distribution, seeds[0] if self._session.isolated else seeds[0] ^ _SEARCH_SEED
            )
        except Dropped as dropped:
            self._note(f"{distribution} inputs were left out: {dropped}")
            return False
        domain = reference.domain(distribution)
        what = f"{distribution} inputs" if domain == "any" else f"{distribution} {domain} inputs"
        sums = Sums()
        last: tuple[Mapping[str, torch.Tensor], Answers] | None = None
        for seed in seeds:
            inputs = reference.inputs(distribution, seed)
            outputs = self._execute(reference, inputs.tensors)
            repeated = self._execute(reference, inputs.tensors) if self._runs == 1 else None
            try:
                answers = reference.answers(inputs)
            except Dropped as dropped:
                self._note(f"one draw of {what} was left out: {dropped}")
                continue
            self._plain(outputs, answers, what)
            sums.add(outputs, answers)
            for figures in sums.all(what, reference):
                if figures.error > _HOPELESS * figures.bound:
                    self.accuracy.append(figures)
                    raise _Rejection(finding_of(figures, outputs, answers))
                name = figures.output
                self._nulls.add(
                    name,
                    inputs.tensors,
                    answers.exact[name],
                    figures.bound,
                    finite=answers.finite[name],
                )
            if repeated is not None:
                self._repeat(reference, inputs, outputs, repeated, answers, what)
            last = outputs, answers
        if last is None:
            return False
        for figures in sums.all(what, reference):
            self.accuracy.append(figures)
            if over(figures):
                raise _Rejection(finding_of(figures, *last))
            if reference.no_fp32 is None and sums.untold(figures.output):
                self._note(
                    f"{figures.output} is out of float32's range on {what}: judged within "
                    f"{bounds.FLOAT64_ALLOWANCE:g} times the floor there"
                )
        return True

    def _plain(self, outputs: Mapping[str, torch.Tensor], answers: Answers, what: str) -> None:
        findings = plain_findings(outputs, answers, what)
        if findings:
            raise _Rejection(findings[0])

    def _repeat(
        self,
        reference: Reference,
        inputs: Inputs,
        outputs: Mapping[str, torch.Tensor],
        repeated: Mapping[str, torch.Tensor],
        answers: Answers,
        what: str,
    ) -> None:
        """A second run on the same values must pass by itself, and should give the same bits.

        The first run may be that of a checking build, whose compiler fuses other products
        and sums than the plain one's: whether runs differ is asked of two plain ones.
        """
        what = f"repeated {what}"
        self._plain(repeated, answers, what)
        if _all_same(outputs, repeated):
            return
        self._within_bound(repeated, answers, what, reference)
        third = self._execute(reference, inputs.tensors)
        self._plain(third, answers, what)
        if _all_same(repeated, third):
            return
        if torch.are_deterministic_algorithms_enabled():
            raise _Rejection(
                Finding(
                    "nondeterministic",
                    "two runs on the same inputs differ bit for bit, and torch's deterministic "
                    "mode is on",
                )
            )
        self._note("two runs on the same inputs differ bit for bit")
        self._within_bound(third, answers, what, reference)

    @staticmethod
    def _within_bound(
        outputs: Mapping[str, torch.Tensor], answers: Answers, what: str, reference: Reference
    ) -> None:
        sums = Sums()
        sums.add(outputs, answers)
        for figures in sums.all(what, reference):
            if over(figures):
                raise _Rejection(finding_of(figures, outputs, answers))

    # --- special values ---------------------------------------------------------------

    def _special(self, reference: Reference) -> None:
        """NaN and infinities in the inputs come out where eager has them."""
        if reference.captured.accepts != "any":
            return  # eager would refuse them
        for number, (what, values) in enumerate(special.plantings(reference.captured.task)):
            self._planted(reference, self._plan.special_seed(number), values, what)

    def _planted(
        self, reference: Reference, seed: int, values: tuple[float, ...], what: str
    ) -> None:
        call = special.planted(reference.captured, seed, values)
        reference.captured.randomise(seed)
        outputs = self._execute(reference, self._tensors(reference, call))
        try:
            answers = reference.evaluate(call)
        except Refused:  # there is nothing to follow
            return
        self._plain(outputs, answers, what)

    def _denormals(self, reference: Reference) -> None:
        """Denormals that become zero are said, not rejected: ``-ftz`` is a choice."""
        captured = reference.captured
        if captured.accepts != "any" or not any(t.dtype == "float32" for t in captured.task.inputs):
            return
        call = special.denormal(captured, self._plan.special_seed(63))
        outputs = self._execute(reference, self._tensors(reference, call))
        try:
            eager = reference.evaluate(call).eager
        except Refused:
            return
        for name, expected in eager.items():
            got = outputs.get(name)
            if got is None or got.shape != expected.shape or not expected.is_floating_point():
                continue
            tiny = torch.finfo(expected.dtype).tiny
            flushed = (expected != 0) & (expected.abs() < tiny) & (got == 0)
            if bool(flushed.any()):
                self._note(f"denormal numbers in {name} are flushed to zero")

    # --- running ----------------------------------------------------------------------

    def _tensors(self, reference: Reference, call: Call) -> dict[str, torch.Tensor]:
        return {name: t.clone() for name, t in reference.captured.tensors(call).items()}

    def _execute(
        self, reference: Reference, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """One run in fresh memory, at another alignment each time. Raises _Rejection."""
        execution: Execution = self._device.execute(
            self._program,
            reference.captured.task,
            tensors,
            checked=self._runs == 0,
            offset=self._runs * 5 % 16,
        )
        self._runs += 1
        for note in execution.notes:
            self._note(note)
        if execution.findings:
            raise _Rejection(execution.findings[0])
        return execution.outputs

    def _note(self, note: str) -> None:
        self._notes.append(note)


def _all_same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(same_bits(a[name], b[name]) for name in a)
