"""Errors of kernel and eager over a distribution, their bounds, and the rejection by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from search_engine.verdict import Accuracy, Finding
from search_engine.verify import bounds
from search_engine.verify.errors import ErrorSums, worst_element
from search_engine.verify.reference import Answers, Reference


class Sums:
    """Errors of kernel and eager per floating output, pooled over a distribution's draws."""

    def __init__(self) -> None:
        self.kernel: dict[str, ErrorSums] = {}
        self._eager: dict[str, ErrorSums] = {}
        self._dtypes: dict[str, str] = {}
        self._told: set[str] = set()  # float64 outputs of which fp32 says eager's error

    def add(self, outputs: Mapping[str, torch.Tensor], answers: Answers) -> None:
        """Take in one draw."""
        self._told |= answers.told.keys()
        for name, errors in answers.errors(outputs).items():
            self.kernel.setdefault(name, ErrorSums()).add(errors)
            self._eager.setdefault(name, ErrorSums()).add(answers.eager_errors[name])
            self._dtypes[name] = str(answers.eager[name].dtype).removeprefix("torch.")

    def untold(self, name: str) -> bool:
        """Whether fp32 says nothing of eager's error in a float64 output that is not zero."""
        if self._dtypes[name] != "float64":
            return False
        eager = self._eager[name]
        lost = eager.norm == 0.0 and self.kernel[name].norm > 0.0
        return eager.error == 0.0 and (lost or name not in self._told)

    def all(self, what: str, reference: Reference) -> Iterator[Accuracy]:
        """The figures of every floating output."""
        for name in self.kernel:
            yield self.figures(name, what, reference)

    def figures(self, name: str, what: str, reference: Reference) -> Accuracy:
        """Errors of one output with their bounds."""
        kernel, eager, dtype = self.kernel[name], self._eager[name], self._dtypes[name]
        reduction = reference.captured.task.longest_reduction
        bound = bounds.bound(eager.relative, dtype, reduction)
        if dtype == "float64":
            told = None if self.untold(name) else eager.relative
            bound = bounds.bound_beside_eager(told, reduction)
        elif reference.no_fp64 is not None:
            bound = bounds.EAGER_REFERENCE_FACTOR * bounds.floor(dtype, reduction)
        return Accuracy(
            output=name,
            distribution=what.removesuffix(" inputs"),
            error=kernel.relative,
            eager_error=eager.relative,
            bound=bound,
            worst_row_error=kernel.worst_row,
            worst_row_bound=bounds.worst_row_bound(bound, eager.worst_row),
        )


def over(figures: Accuracy) -> bool:
    """Whether the kernel is rejected by these figures."""
    return figures.error > figures.bound or figures.worst_row_error > figures.worst_row_bound


def finding_of(figures: Accuracy, outputs: Mapping[str, torch.Tensor], answers: Answers) -> Finding:
    """The rejection by the bound, with the element that is furthest off in the last draw."""
    name = figures.output
    error, bound, part = figures.error, figures.bound, name
    if error <= bound:
        error, bound = figures.worst_row_error, figures.worst_row_bound
        part = f"the worst row of {name}"
    told = ", told from float32" if outputs[name].dtype is torch.float64 else ""
    return Finding(
        "accuracy",
        f"the relative error of {part} on {figures.distribution} inputs is {error:.2g}, over the "
        f"bound of {bound:.2g} (eager's own is {figures.eager_error:.2g}{told}; both against fp64)",
        place=worst_element(outputs[name], answers.exact[name], name),
    )
