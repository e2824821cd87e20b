"""A kernel that passed verification and failed under the timer."""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.errors import KernelLspError
from search_engine.verdict import Finding


class MeasurementRejected(KernelLspError):
    """The timed launches themselves speak against the kernel; ``findings`` say why.

    Wrong outputs of a timed launch, memory touched outside, a time below what the
    hardware allows.
    """

    exit_code = 1

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(str(finding) for finding in self.findings))
