"""Composite operators as graphs of simpler ones, so that one set of rules covers them all.

``decomposed(graph)`` replaces group and instance norms, distances and losses by the pointwise
operators, reductions and views that they are in ATen, formula by formula. A file of such
formulas is a table and a name in ``decomposed``. Intermediate values of halves are float32: no
digit is lost where the graph is later cut between two launches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from attrs import evolve, field, frozen, mutable

from search_engine.graph import Argument, Graph, Node, Ref
from search_engine.playbook.program import Unsupported
from search_engine.playbook.reductions import listed_dims
from search_engine.playbook.views import argument
from search_engine.task import Task

Shape: TypeAlias = "tuple[int, ...]"
Value: TypeAlias = "Ref | int | float"


@frozen
class Tensor:
    """What a value of the graph is."""

    shape: Shape
    dtype: str


@mutable
class Builder:
    """Writes the nodes that one composite node is replaced by."""

    node: Node
    values: dict[str, Tensor]  # of the graph so far
    nodes: list[Node] = field(factory=list)

    def tensor(self, value: Ref) -> Tensor:
        """Shape and dtype of a value."""
        return self.values[value.name]

    def shape(self, value: Value) -> Shape:
        """The value's shape; a literal has none."""
        return self.values[value.name].shape if isinstance(value, Ref) else ()

    def rank(self, value: Ref) -> int:
        """Its number of dimensions."""
        return len(self.shape(value))

    def given(self, position: int, key: str, default: Argument = None) -> Argument:
        """An argument of the composite node."""
        return argument(self.node, position, key, default)

    def ref(self, position: int, key: str) -> Ref:
        """An argument that is a tensor."""
        value = self.given(position, key)
        assert isinstance(value, Ref), f"{self.node.op} without {key}"
        return value

    def number(self, position: int, key: str, default: float) -> float:
        """An argument that is a number."""
        value = self.given(position, key, default)
        assert isinstance(value, (int, float)), f"{self.node.op}: {key} is {value!r}"
        return value

    def add(
        self,
        op: str,
        *args: Argument,
        shape: Shape,
        dtype: str,
        kwargs: dict[str, Argument] | None = None,
    ) -> Ref:
        """One node."""
        name = f"{self.node.name}_{op.split('.')[1]}"
        while name in self.values:
            stem, _, count = name.rpartition("_")
            name = f"{stem}_{int(count) + 1}" if count.isdigit() and stem else f"{name}_1"
        self.values[name] = Tensor(shape, dtype)
        self.nodes.append(Node(name, op, args, kwargs or {}, dtype, shape))
        return Ref(name)

    @property
    def work(self) -> str:
        """The dtype of floating intermediate values."""
        inputs = [self.values[name].dtype for name in self.node.references()]
        wide = "float64" in inputs or self.node.dtype == "float64"
        return "float64" if wide else "float32"

    def unchanged(self) -> Ref:
        """The node as it is."""
        node = self.node
        return self.add(node.op, *node.args, shape=node.shape, dtype=node.dtype, kwargs=node.kwargs)

    def pointwise(self, op: str, *args: Value, dtype: str = "") -> Ref:
        """A pointwise operator, broadcast."""
        shape = broadcast_shape([self.shape(arg) for arg in args])
        return self.add(f"aten.{op}", *args, shape=shape, dtype=dtype or self.work)

    def sub(self, a: Value, b: Value) -> Ref:
        """a − b."""
        op = "sub.Tensor" if isinstance(a, Ref) else "rsub.Scalar"
        return self.pointwise(op, *((a, b) if isinstance(a, Ref) else (b, a)))

    def plus(self, a: Ref, b: Value) -> Ref:
        """a + b."""
        return self.pointwise("add.Tensor", a, b)

    def mul(self, a: Ref, b: Value) -> Ref:
        """a · b."""
        return self.pointwise("mul.Tensor", a, b)

    def div(self, a: Ref, b: Value) -> Ref:
        """a / b."""
        return self.pointwise("div.Tensor", a, b)

    def unary(self, op: str, a: Ref) -> Ref:
        """A function of one value."""
        return self.pointwise(f"{op}.default", a)

    def compare(self, op: str, a: Ref, b: Value) -> Ref:
        """A comparison."""
        kind = "Tensor" if isinstance(b, Ref) else "Scalar"
        return self.pointwise(f"{op}.{kind}", a, b, dtype="bool")

    def where(self, condition: Ref, a: Value, b: Value) -> Ref:
        """a where the condition holds, else b."""
        return self.pointwise("where.self", condition, a, b)

    def at_least(self, a: Ref, low: float) -> Ref:
        """max(a, low)."""
        return self.pointwise("clamp_min.default", a, low)

    def reduce(self, op: str, a: Ref, dims: Sequence[int] | None = None, *,
               keepdim: bool = False, before: tuple[Argument, ...] = ()) -> Ref:  # fmt: skip
        """A reduction over the dimensions, or all; ``before``: arguments before ``dim``."""
        shape = self.shape(a)
        listed = listed_dims(None if dims is None else tuple(dims), len(shape))
        kept = tuple(
            1 if d in listed else n for d, n in enumerate(shape) if keepdim or d not in listed
        )
        return self.add(
            f"aten.{op}", a, *before, tuple(listed), keepdim, shape=kept, dtype=self.work
        )

    def sum(self, a: Ref, dims: Sequence[int] | None = None, *, keepdim: bool = False) -> Ref:
        """The sum over the dimensions."""
        return self.reduce("sum.dim_IntList", a, dims, keepdim=keepdim)

    def view(self, a: Ref, shape: Shape) -> Ref:
        """The same elements in another shape."""
        return self.add("aten.view.default", a, shape, shape=shape, dtype=self.tensor(a).dtype)

    def along(self, a: Ref, dim: int, rank: int) -> Ref:
        """A vector laid along dimension ``dim`` of ``rank``."""
        size = math.prod(self.shape(a))
        return self.view(a, tuple(size if d == dim else 1 for d in range(rank)))

    def averaged(self, losses: Ref, position: int) -> Ref:
        """The losses as they are, their mean or their sum: the argument ``reduction``."""
        reduction = self.given(position, "reduction", 1)
        if reduction == 0:
            return losses
        return self.reduce("mean.dim" if reduction == 1 else "sum.dim_IntList", losses)


Rule = Callable[[Builder], Ref]


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """The shape that values of those shapes broadcast to."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))


def decomposed(graph: Graph, tensors: dict[str, Tensor]) -> Graph:
    """The graph without composite operators; ``tensors`` are its inputs."""
    from search_engine.playbook.attention import ATTENTION
    from search_engine.playbook.cells import CELLS
    from search_engine.playbook.losses import LOSSES
    from search_engine.playbook.rearranged import REARRANGED
    from search_engine.playbook.transposed import TRANSPOSED

    rules = {**COMPOSITES, **LOSSES, **ATTENTION, **CELLS, **REARRANGED, **TRANSPOSED}
    values = dict(tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        parts = node.op.split(".")
        rule = rules.get(parts[1]) if len(parts) > 1 and parts[0] == "aten" else None
        if rule is None:
            nodes.append(node)
        else:
            builder = Builder(node, values)
            rule(builder)
            last = builder.nodes.pop()
            assert last.shape == node.shape, f"{node.op}: {last.shape} is not {node.shape}"
            nodes += [*builder.nodes, evolve(last, name=node.name, dtype=node.dtype)]
        values[node.name] = Tensor(node.shape, node.dtype)
    return Graph(inputs=graph.inputs, nodes=tuple(nodes), outputs=graph.outputs)


def simple_graph(task: Task) -> Graph:
    """The task's graph without composite operators. The task must have a graph."""
    assert task.graph is not None
    inputs = {t.name: Tensor(t.shape, t.dtype) for t in task.tensors if t.role != "output"}
    return decomposed(task.graph, inputs)


def _affine(b: Builder, value: Ref, weight: Argument, bias: Argument) -> Ref:
    """value · weight + bias by channel, either of them absent."""
    for op, parameter in ((b.mul, weight), (b.plus, bias)):
        if isinstance(parameter, Ref):
            value = op(value, b.along(parameter, 1, b.rank(value)))
    return value


def _layer_norm(b: Builder, value: Ref, dims: int, eps: Argument) -> Ref:
    """(x − mean) / √(var + eps) over the last ``dims`` dimensions."""
    shape = b.shape(value)
    return b.add(
        "aten.layer_norm.default", value, shape[len(shape) - dims :], None, None, eps,
        shape=shape, dtype=b.work,
    )  # fmt: skip


def _group_norm(b: Builder) -> Ref:
    """``group_norm(x, groups, weight, bias, eps)``: x as [N, groups, channels of one, …]."""
    x, groups = b.ref(0, "input"), int(b.number(1, "num_groups", 1))
    shape = b.shape(x)
    grouped = b.view(x, (shape[0], groups, shape[1] // groups, *shape[2:]))
    normalised = _layer_norm(b, grouped, len(shape) - 1, b.given(4, "eps", 1e-5))
    return _affine(b, b.view(normalised, shape), b.given(2, "weight"), b.given(3, "bias"))


def _instance_norm(b: Builder) -> Ref:
    """``instance_norm(x, weight, bias, mean, var, use_input_stats, momentum, eps)``."""
    x, weight, bias = b.ref(0, "input"), b.given(1, "weight"), b.given(2, "bias")
    eps = b.given(7, "eps", 1e-5)
    shape = b.shape(x)
    if b.given(5, "use_input_stats", True):
        return _affine(b, _layer_norm(b, x, len(shape) - 2, eps), weight, bias)
    mean, var = b.given(3, "running_mean"), b.given(4, "running_var")
    return b.add(
        "aten.batch_norm.default", x, weight, bias, mean, var, False, 0.1, eps, False,
        shape=shape, dtype=b.work,
    )  # fmt: skip


def norm(b: Builder, value: Ref, order: Argument, dims: Sequence[int], *, keepdim: bool) -> Ref:
    """The vector norm over the dimensions."""
    return b.reduce("linalg_vector_norm.default", value, dims, keepdim=keepdim, before=(order,))


def distance(b: Builder, x: Ref, y: Ref, order: Argument, eps: float, keepdim: bool) -> Ref:
    """‖x − y + eps‖ over the last dimension, as ``pairwise_distance`` has it."""
    return norm(b, b.plus(b.sub(x, y), eps), order, (-1,), keepdim=keepdim)


def _pairwise_distance(b: Builder) -> Ref:
    x, y, order = b.ref(0, "x1"), b.ref(1, "x2"), b.given(2, "p", 2.0)
    return distance(b, x, y, order, b.number(3, "eps", 1e-6), bool(b.given(4, "keepdim", False)))


def _dist(b: Builder) -> Ref:
    """``dist(x, y, p)``: the norm of everything."""
    difference = b.sub(b.ref(0, "self"), b.ref(1, "other"))
    dims = range(b.rank(difference))
    return norm(b, difference, b.given(2, "p", 2), tuple(dims), keepdim=False)


def _cosine_similarity(b: Builder) -> Ref:
    """``cosine_similarity(x, y, dim, eps)``: each norm is at least eps."""
    x, y = b.ref(0, "x1"), b.ref(1, "x2")
    dim, eps = int(b.number(2, "dim", 1)), b.number(3, "eps", 1e-8)
    product = b.mul(x, y)
    rank = b.rank(product)
    dim %= rank
    # The norm of a broadcast operand is that of the operand, over the same dimension.
    lengths = []
    for value in (x, y):
        own = dim - (rank - b.rank(value))
        if own < 0 or b.shape(value)[own] != b.shape(product)[dim]:
            expanded = b.shape(product)
            value = b.add("aten.expand.default", value, expanded, shape=expanded, dtype=b.work)
            own = dim
        lengths.append(b.at_least(norm(b, value, 2, (own,), keepdim=False), eps))
    return b.div(b.div(b.sum(product, (dim,)), lengths[0]), lengths[1])


def _glu(b: Builder) -> Ref:
    """``glu(x, dim)``: the first half times the logistic function of the second."""
    x = b.ref(0, "self")
    shape = b.shape(x)
    dim = int(b.number(1, "dim", -1)) % len(shape)
    half = shape[dim] // 2
    halved = (*shape[:dim], half, *shape[dim + 1 :])
    first, second = (
        b.add("aten.slice.Tensor", x, dim, at, at + half, shape=halved, dtype=b.tensor(x).dtype)
        for at in (0, half)
    )
    return b.mul(first, b.unary("sigmoid", second))


def _prelu(b: Builder) -> Ref:
    """``prelu(x, weight)``: a slope per channel, or one for all."""
    x, weight = b.ref(0, "self"), b.ref(1, "weight")
    rank = b.rank(x)
    slope = b.along(weight, 1, rank) if rank > 1 else weight
    return b.where(b.compare("gt", x, 0), x, b.mul(slope, x))


def _extreme_of_two(op: str) -> Rule:
    """``max(x, y)`` is ``maximum``; ``max(x)`` and ``max(x, dim)`` stay."""

    def rule(b: Builder) -> Ref:
        if not b.node.op.endswith(".other"):
            return b.unchanged()
        x, y = b.ref(0, "self"), b.ref(1, "other")
        return b.pointwise(f"{op}.default", x, y, dtype=b.node.dtype)

    return rule


def _rrelu(b: Builder) -> Ref:
    """``rrelu(x, lower, upper, training)`` in eval: the mean slope."""
    slope = (b.number(1, "lower", 1 / 8) + b.number(2, "upper", 1 / 3)) / 2
    x = b.ref(0, "self")
    if b.given(3, "training", False):
        raise Unsupported(f"No playbook idea covers {b.node.op} in training mode: it is random.")
    return b.add("aten.leaky_relu.default", x, slope, shape=b.shape(x), dtype=b.work)


COMPOSITES: dict[str, Rule] = {
    "glu": _glu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "max": _extreme_of_two("maximum"),
    "min": _extreme_of_two("minimum"),
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "pairwise_distance": _pairwise_distance,
    "dist": _dist,
    "cosine_similarity": _cosine_similarity,
}
