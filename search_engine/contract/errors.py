"""The contract's own error: a kernel text that breaks it, with every place."""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.errors import KernelLspError
from search_engine.verdict import Finding


class ContractError(KernelLspError):
    """A kernel that breaks the contract; ``findings`` has line, column and what was expected."""

    exit_code = 1

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(str(finding) for finding in self.findings))
