"""Errors that a user can cause or mend.

Every message is one clear sentence that says what to do. It reaches the editor
as one notification and the command line as one line, never as a traceback.
"""

from __future__ import annotations


class KernelLspError(Exception):
    """Base of the family; ``exit_code`` is what the command line returns."""

    exit_code = 2


class SetupError(KernelLspError):
    """Something the machine lacks: a compiler, a GPU, a package, write access."""


class CaptureError(KernelLspError):
    """The user's module cannot be made into a task (import, inputs, forward, export)."""


class StoreError(KernelLspError):
    """The store cannot be read or written: corrupt, newer, full disk, no access."""


class DeliveryError(KernelLspError):
    """An edit cannot be applied or taken out without damage."""


class WorkerDied(KernelLspError):
    """A worker process ended or hung; the candidate is lost, the search is not.

    ``timed_out`` tells a hang from an end.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
