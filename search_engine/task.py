"""The task: one module with concrete inputs, what a search makes faster. Free of torch."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from attrs import field, frozen

from search_engine.graph import Graph
from search_engine.recording import RecordedCall

Role: TypeAlias = Literal["input", "parameter", "buffer", "constant", "output"]
Policy: TypeAlias = Literal["match"]
# Products of matrices, as torch's flags tell them apart.
ProductKind: TypeAlias = Literal["matmul", "convolution"]
Scalar: TypeAlias = "int | float | bool"

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


@frozen
class TensorSpec:
    """One tensor of the task by its contract name (``x``, ``ln.weight``, ``out.0``)."""

    name: str
    role: Role
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without padding between strides."""
        return self.numel * ITEM_BYTES[self.dtype]

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


@frozen
class CaptureRequest:
    """What to capture: a class in the text of a buffer, as if it were saved at ``path``."""

    path: str
    text: str
    qualname: str | None = None  # None: `Model`, else the only root module
    mode: Literal["eval", "train"] = "eval"
    target: str = "h200"  # the GPU of the limit and the estimate where there is no GPU
    import_timeout: float = 60.0  # seconds
    recorded: tuple[RecordedCall, ...] = ()  # for where the file does not say the inputs


@frozen
class Task:
    """A module with concrete inputs.

    ``flops`` counts multiply and add as two. ``min_bytes`` is every input and parameter
    that is read once plus every output written once. ``longest_reduction`` is the K of
    the accuracy bound. ``limit_seconds`` is the roofline on ``target``; ``limit_reason``
    says which unit sets it. ``certain_seconds`` is the part of it that no honest kernel can
    get round, by whatever algorithm: a shorter time is no time. ``graph`` is None where there
    is none; then ``graph_reason`` is one sentence that says why.
    """

    path: str
    qualname: str
    module_name: str  # dotted name under which the file is imported ("pkg.net")
    fingerprint: str  # of the class's normalised source, see search_engine.source
    inputs_from: Literal["get_inputs", "comment", "recorded"]
    construction: str  # how the module is built, for people: "Net(512)"
    tensors: tuple[TensorSpec, ...]
    scalars: dict[str, Scalar]  # forward's own scalar arguments
    mode: Literal["eval", "train"]
    policy: Policy
    target: str  # DeviceFacts.key or the name of the GPU found
    flops: int
    min_bytes: int
    longest_reduction: int
    limit_seconds: float
    limit_reason: str
    graph: Graph | None
    graph_reason: str | None = None
    certain_seconds: float = 0.0
    certain_reason: str = ""
    # Products that eager takes in TF32 on the device that it was captured on, in fp32 tasks: what
    # else it is compared with there. None on a CPU, whatever torch's flags allow a GPU.
    tf32: tuple[ProductKind, ...] = ()
    notes: tuple[str, ...] = ()  # what the user should know: reduced sizes, dropped draws
    further: tuple[Task, ...] = ()  # the same module at its other shapes, for one kernel each

    _by_name: dict[str, TensorSpec] = field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._by_name.update({tensor.name: tensor for tensor in self.tensors})

    def tensor(self, name: str) -> TensorSpec | None:
        """The tensor of that contract name, or None."""
        return self._by_name.get(name)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """``forward``'s tensor inputs."""
        return tuple(t for t in self.tensors if t.role == "input")

    @property
    def shape_text(self) -> str:
        """What it is run on, for people: ``x float32[16, 512], scale 0.5``."""
        tensors = [f"{t.name} {t.dtype}{list(t.shape)}" for t in self.inputs]
        return ", ".join([*tensors, *(f"{name} {value}" for name, value in self.scalars.items())])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What ``forward`` returns."""
        return tuple(t for t in self.tensors if t.role == "output")
