"""Construction and inputs from a run that ``kernel-lsp record`` watched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType

import attrs
import torch

from search_engine.capture import values
from search_engine.capture.comment import Description, parse_description
from search_engine.capture.inputs import Comment, Source
from search_engine.errors import CaptureError
from search_engine.record.inside.describe import state_digest
from search_engine.recording import RecordedCall

MOST_SHAPES = 4  # verified of what was recorded
LEAST_SHARE = 0.01  # of the calls: rarer shapes are left to the original forward

_PLACE = "the recorded run"
_LINE = re.compile(r"^Line \d+: ")


def recorded_source(
    module: ModuleType,
    path: str,
    cls: type[torch.nn.Module],
    recorded: Sequence[RecordedCall],
) -> Source:
    """The source that makes ``cls`` as it was made most often, on the shapes it got then.

    Raises CaptureError where that does not work with the file as it is now.
    """
    total = sum(call.calls for call in recorded)
    chosen = [call for call in recorded if call.calls >= LEAST_SHARE * total][:MOST_SHAPES]
    try:
        first, *others = (_Recorded(module, path, cls, call) for call in chosen)
    except CaptureError as error:
        raise CaptureError(
            f"What was recorded of {cls.__qualname__} cannot be used "
            f"({_LINE.sub('', str(error)).rstrip('.')}): run `kernel-lsp record` again, or "
            "describe its inputs in a comment above the class."
        ) from error
    first.further = tuple(other for other in others if other.construction == first.construction)
    return first


class _Recorded(Comment):
    """A description as from a comment, with what a comment cannot say."""

    kind = "recorded"

    def __init__(
        self, module: ModuleType, path: str, cls: type[torch.nn.Module], call: RecordedCall
    ) -> None:
        super().__init__(module, path, cls, parse_description(1, call.description))
        self.place = _PLACE
        self._call = call

    def at(self, description: Description) -> Comment:
        raise NotImplementedError("recorded shapes are sources of their own")

    def construct(self, device: str = "cpu") -> torch.nn.Module:
        made = super().construct(device)
        if self._call.state and state_digest(made) != self._call.state:
            raise CaptureError(
                f"{self.construction} has other parameters than the module that was recorded: it "
                "was changed after it was made. Describe how to make it in a comment above the "
                "class, or with get_init_inputs()."
            )
        return made

    def leaf(self, name: str) -> values.Leaf | None:
        """With the strides that the input had."""
        leaf = super().leaf(name)
        stride = self._call.strides.get(name)
        return leaf if leaf is None or stride is None else attrs.evolve(leaf, stride=tuple(stride))
