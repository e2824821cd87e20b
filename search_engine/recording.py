"""What ``kernel-lsp record`` keeps of a class, as plain data. Free of torch."""

from __future__ import annotations

from attrs import field, frozen


@frozen
class RecordedCall:
    """One way in which a class was made and called.

    ``description`` is in the words of the comment above a class ("Net(512), x=float32[16,
    64]", see ``search_engine.capture.comment``). ``strides`` are those of inputs that are
    not contiguous, by contract name. ``state`` is a digest of the names and shapes of the
    instance's parameters and buffers: what the constructor call has to give again.
    """

    description: str
    calls: int
    strides: dict[str, tuple[int, ...]] = field(factory=dict)
    state: str = ""


@frozen
class Recording:
    """One class in one run of the user's.

    ``share`` is the time in its forward over the time of a step (from one call of an
    outermost module to the next), on the GPU's clock where there is one; ``self_share``
    the same without the user's own modules inside it. Both are None where no step was
    timed. ``fingerprint`` is of the class as it ran.
    """

    path: str
    qualname: str
    fingerprint: str
    command: str  # "train.py": without its arguments, which may be secret
    recorded: float  # unix time of the run's end
    device: str  # "cpu", "NVIDIA H200"
    calls: int
    graded: int  # calls with gradients enabled: a kernel does not run in those
    seconds: float | None  # of one call, on the average
    share: float | None
    self_share: float | None
    variants: tuple[RecordedCall, ...]  # most frequent first
    undescribed: str = ""  # why there are no variants, as a clause

    def usable(self, fingerprint: str | None) -> tuple[RecordedCall, ...]:
        """What a search of the class may go by: nothing where the class changed since."""
        return self.frequent if fingerprint == self.fingerprint else ()

    def changed(self, fingerprint: str | None) -> bool:
        """Whether the class is another one now; a broken class tells nothing."""
        return fingerprint is not None and fingerprint != self.fingerprint

    @property
    def frequent(self) -> tuple[RecordedCall, ...]:
        """The variants of the module that was called most often: other shapes, same module."""
        if not self.variants:
            return ()
        return tuple(v for v in self.variants if v.state == self.variants[0].state)
