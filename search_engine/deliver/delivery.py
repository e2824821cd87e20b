"""What a search offers: files beside the user's file, and two lines in it. Free of torch."""

from __future__ import annotations

from attrs import frozen


@frozen
class DeliveredShape:
    """One verified set of shapes, for people."""

    text: str  # "x float32[16, 512], scale 0.5"
    summary: str  # "×1.31 over torch.compile, ×31.6 over eager"


@frozen
class Delivery:
    """A verified kernel, ready to be accepted.

    ``files`` maps paths relative to the folder of the user's file ("net_cuda/Net.cu") to
    their text. ``import_line`` and ``decorator_line`` are the edit ("from .net_cuda.Net
    import Net_cuda" inside a package, without the dot outside; "@Net_cuda").
    ``fingerprint`` is of the class as it was verified.
    """

    qualname: str
    fingerprint: str
    files: dict[str, str]
    import_line: str
    decorator_line: str
    title: str  # the winning idea's
    rationale: str
    summary: str  # one line for lens and annotations: "×1.31 over torch.compile, ×31.6 over eager"
    shapes: tuple[DeliveredShape, ...] = ()  # all that the kernel runs on, the search's own first


@frozen
class TextEdit:
    """Replace lines [start, end) of a text, 0-based, by ``text`` (whole lines, or empty)."""

    start: int
    end: int
    text: str
