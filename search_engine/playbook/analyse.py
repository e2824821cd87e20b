"""From the task's graph to one loop nest (``Program``), or a sentence why there is none.

Values are asked for backwards from the outputs: "the value of node n at index i". Views
change the index, pointwise operators hand it to their operands, reductions ask for their
operand at all columns. What cannot be one loop nest raises Unsupported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import evolve

from search_engine.graph import Argument, Node, Ref
from search_engine.playbook import operators, views
from search_engine.playbook.canonical import canonical
from search_engine.playbook.decompose import simple_graph
from search_engine.playbook.expression import (
    Apply,
    Bound,
    Constant,
    Expression,
    Inside,
    Load,
    scans,
    statistics,
)
from search_engine.playbook.index import ZERO, Index, SplitAxis, broadcast, strides_of
from search_engine.playbook.merge import merged
from search_engine.playbook.program import Program, Store, Unsupported
from search_engine.playbook.registry import REDUCING
from search_engine.playbook.space import DIFFERENT_ROWS, ONE, Piece, Space
from search_engine.task import Task, TensorSpec

_MOST_SPLITS = 32


def analyse(task: Task) -> Program:
    """The task's loop nest. Raises Unsupported with the operator's name."""
    return nest(whole(task))


def whole(task: Task) -> Piece:
    """The task as one piece. Raises Unsupported where there is no graph to read."""
    if task.graph is None:
        raise Unsupported(
            task.graph_reason or "The playbook needs the exported graph, and there is none."
        )
    used = {*task.graph.inputs, *(name for name, _ in task.graph.outputs)}
    if any(tensor.numel == 0 for tensor in task.tensors if tensor.name in used):
        raise Unsupported("A tensor of the task has no elements: there is nothing to make faster.")
    graph = simple_graph(task)
    outputs = []
    for name, value in graph.outputs:
        spec = task.tensor(name)
        assert spec is not None, f"the task lacks its output {name}"
        outputs.append((spec, value))
    return Piece(
        graph=graph,
        nodes={node.name: node for node in graph.nodes},
        tensors={tensor.name: tensor for tensor in task.tensors if tensor.role != "output"},
        outputs=tuple(outputs),
        tf32=task.tf32,
    )


def nest(piece: Piece) -> Program:
    """The piece as one loop nest. Raises Unsupported with the operator's name."""
    space = Space(piece)
    for _ in range(_MOST_SPLITS):
        try:
            return merged(Reader(space).program())
        except SplitAxis as split:
            space.split(split)
        except RecursionError:
            raise Unsupported(
                "The graph is one chain of too many operators for the playbook."
            ) from None
    raise Unsupported("The graph reshapes its tensors in more ways than the playbook can follow.")


class Reader:
    """Reads a piece of a graph over one iteration space.

    Operators of ``registry.REDUCING`` ask it for what they need: ``value`` and ``operand``
    (values at an index), ``reduced`` or ``reduce_over`` (indices over columns), ``bounded``
    (a value at an index that may lie outside).
    """

    def __init__(self, space: Space) -> None:
        self.space, self.piece = space, space.piece
        self._memo: dict[tuple[str, Index, tuple[Bound, ...]], Expression] = {}
        self._values = {node.name: (node.shape, node.dtype) for node in self.piece.graph.nodes}
        for name, tensor in self.piece.tensors.items():
            self._values[name] = (tensor.shape, tensor.dtype)
        self._at: list[Index] = []  # the index of every node that is being read, outermost first
        self._bounds: tuple[Bound, ...] = ()  # that hold of all loads, inside ``bounded``
        self.column_axes: set[str] = set()

    def program(self) -> Program:
        """The loop nest before neighbouring axes are merged."""
        stores = []
        for spec, value in self.piece.outputs:
            index = self._output_index(spec.shape)
            strides: dict[str, int] = {}
            for part, stride in zip(index, spec.stride, strict=True):
                for axis, factor in part.terms:
                    strides[axis] = strides.get(axis, 0) + factor * stride
            if self.space.axes[0].name == ONE:
                strides[ONE] = 1
            expression = self.value(value, index)
            stores.append(Store(spec.name, spec.dtype, expression, tuple(strides.items())))
        sizes = self.space.sizes
        length = math.prod(sizes[axis] for axis in self.column_axes)
        values = canonical([store.value for store in stores], length)
        stores = [
            Store(store.tensor, store.dtype, value, store.strides)
            for store, value in zip(stores, values, strict=True)
        ]
        axes = (*self.space.axes, *self.space.reduced)
        first = stores[0]
        ordered = sorted(axes, key=lambda axis: -first.stride(axis.name))  # stable
        rows = tuple(a for a in ordered if a.name not in self.column_axes)
        columns = tuple(a for a in ordered if a.name in self.column_axes)
        if in_order(values) and columns != tuple(a for a in axes if a.name in self.column_axes):
            raise Unsupported(
                "No playbook idea covers places along a dimension that the output stores in "
                "another order."
            )
        return Program(rows, columns, tuple(stores), self.piece.tf32)

    def _output_index(self, shape: tuple[int, ...]) -> Index:
        """An output of the largest size is indexed by all axes, a smaller one by broadcasting."""
        space = self.space
        if math.prod(shape) == math.prod(space.shape):
            return space.index(space.axes, shape)
        whole = space.index(space.axes, space.shape)
        fits = len(shape) <= len(whole) and all(
            size in (1, full)
            for size, full in zip(reversed(shape), reversed(space.shape), strict=False)
        )
        if fits:
            return broadcast(whole, shape)
        lead = len(shape)
        if shape == space.shape[:lead]:
            return whole[:lead]
        raise Unsupported("No playbook idea covers outputs of unrelated shapes yet.")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value of the graph."""
        return self._values[name][0]

    def dtype(self, name: str) -> str:
        """The dtype of a value of the graph."""
        return self._values[name][1]

    def value(self, name: str, index: Index) -> Expression:
        """The value ``name`` at ``index``."""
        key = (name, index, self._bounds)
        if key not in self._memo:
            node = self.piece.nodes.get(name)
            if node is None:
                self._memo[key] = self._load(name, index)
            else:
                self._at.append(index)
                self._memo[key] = self._node(node, index)
                self._at.pop()
        return self._memo[key]

    def bounded(self, name: str, index: Index, outside: float | int | bool = 0) -> Expression:
        """The value ``name`` at an index that may lie outside of it; there it is ``outside``.

        No load that the value needs touches memory where the index is outside.
        """
        sizes = self.space.sizes
        found = [
            Bound(tuple(sorted((a, f) for a, f in part.terms if f)), part.constant, size)
            for part, size in zip(index, self.shape(name), strict=True)
        ]
        bounds = tuple(bound for bound in found if not bound.always(sizes))
        if not bounds:
            return self.value(name, index)
        before = self._bounds
        self._bounds = tuple(dict.fromkeys((*before, *bounds)))
        try:
            value = self.value(name, index)
        finally:
            self._bounds = before
        if outside == 0 and not isinstance(outside, bool) and isinstance(value, Load):
            return value
        dtype = self.dtype(name)
        return Apply("where", (Inside(bounds), value, Constant(outside, dtype)), dtype)

    def running(self, name: str, index: Index, dim: int) -> Expression:
        """The value at an index along dimension ``dim`` of which a scan runs over the columns.

        Bounds on the place that the scan is wanted at say nothing of the places that it runs
        over: they are not passed on.
        """
        own = {axis for axis, _ in index[dim].terms}
        before = self._bounds
        self._bounds = tuple(b for b in before if not own & {axis for axis, _ in b.terms})
        try:
            self._claimed((index[dim],))
            return self.bounded(name, index)
        finally:
            self._bounds = before

    def operand(self, argument: Argument, index: Index, dtype: str) -> Expression:
        """An operator's argument, broadcast to ``index``; literals take ``dtype``."""
        if isinstance(argument, Ref):
            return self.value(argument.name, broadcast(index, self.shape(argument.name)))
        if isinstance(argument, (bool, int, float)):
            return Constant(argument, dtype)
        raise Unsupported(f"No playbook idea covers the argument {argument!r} of an operator yet.")

    def reduce_over(self, name: str, dims: Sequence[int], index: Index) -> Index:
        """The index into ``name`` at all columns; ``index`` is over the kept dimensions."""
        shape = self.shape(name)
        inner = iter(self._claimed(self.space.columns(index, [shape[d] for d in dims])))
        outer = iter(index)
        return tuple(next(inner) if d in dims else next(outer) for d in range(len(shape)))

    def reduced(self, sizes: Sequence[int]) -> Index:
        """One index per size, over axes that are summed: no output has them.

        They are the node's own, or those of another reduction over as many elements. The
        node's result is wanted once: raises Unsupported where an output repeats it along a
        dimension, so that nothing as costly as a contraction is computed twice.
        """
        if math.prod(sizes) == 1:
            return tuple(ZERO for _ in sizes)
        here = self._at[-1] if self._at else ()
        used = {axis for part in here for axis, _ in part.terms}
        if any(axis.size > 1 and axis.name not in used for axis in self.space.axes):
            raise Unsupported(
                "No playbook idea covers a reduction whose result is repeated along a dimension."
            )
        return self._claimed(self.space.summed(here, sizes))

    def _claimed(self, index: Index) -> Index:
        """The index, its axes noted as the columns; all reductions of a nest share them."""
        columns = {axis for part in index for axis, _ in part.terms}
        if self.column_axes and columns and columns != self.column_axes:
            raise Unsupported(DIFFERENT_ROWS)
        if any(bound.factor(axis) for bound in self._bounds for axis in columns):
            # What holds of a place would hold of what is reduced for it.
            raise Unsupported(DIFFERENT_ROWS)
        self.column_axes |= columns
        return index

    def _load(self, name: str, index: Index) -> Expression:
        spec = self.piece.tensors.get(name)
        if spec is None:
            raise Unsupported(f"No playbook idea covers the value {name!r} of the graph yet.")
        return self._element(spec, index)

    def _in_memory(self, node: Node) -> TensorSpec | None:
        """A reshape of a contiguous tensor is that tensor in another shape, however it cuts."""
        name = node.name
        while (step := self.piece.nodes.get(name)) is not None:
            if base_name(step) not in views.RESHAPES:
                return None
            name = views.source(step)
        spec = self.piece.tensors.get(name)
        if spec is None or not spec.contiguous:
            return None
        return evolve(spec, shape=node.shape, stride=strides_of(node.shape))

    def _element(self, spec: TensorSpec, index: Index) -> Load:
        """The load of one element."""
        strides: dict[str, int] = {}
        offset = 0
        for part, stride in zip(index, spec.stride, strict=True):
            offset += part.constant * stride
            for axis, factor in part.terms:
                strides[axis] = strides.get(axis, 0) + factor * stride
        if self.space.axes[0].name == ONE:
            strides[ONE] = 1
        kept = tuple((axis, stride) for axis, stride in sorted(strides.items()) if stride)
        return Load(spec.name, spec.dtype, kept, offset, self._bounds)

    def _node(self, node: Node, index: Index) -> Expression:
        aten = base_name(node)
        if aten in operators.FILLED:
            return self._filled(aten, node)
        if aten in views.VIEWS:
            memory = self._in_memory(node)
            if memory is not None:
                return self._element(memory, index)
            source, inner = views.VIEWS[aten](node, index, self)
            return self.value(source, inner)
        if aten in REDUCING:
            return REDUCING[aten](node, index, self)
        if aten in views.CASTS:
            return self._cast(node, index)
        if operators.covers(aten, node.dtype):
            return self._pointwise(aten, node, index)
        raise Unsupported(f"No playbook idea covers {node.op} yet.")

    def _filled(self, aten: str, node: Node) -> Expression:
        """A tensor of one value, such as ``torch.full_like(x, 2)``: a literal, never loaded."""
        value: Argument = operators.FILLED[aten]
        if aten.endswith(("full", "full_like")):
            value = views.argument(node, 2 if aten == "new_full" else 1, "fill_value")
        if not isinstance(value, (bool, int, float)):
            raise Unsupported(f"No playbook idea covers {node.op} of {value!r} yet.")
        return Constant(value, node.dtype)

    def _cast(self, node: Node, index: Index) -> Expression:
        source = node.args[0]
        assert isinstance(source, Ref)
        value = self.operand(source, index, node.dtype)
        before = self.dtype(source.name)
        floats = ("float16", "bfloat16", "float32")
        # Between the narrow floats nothing is done: values stay in float from load to store,
        # which is at least as accurate as rounding on the way.
        if before == node.dtype or (before in floats and node.dtype in floats):
            return value
        return operators.converted(value, node.dtype, node.name)

    def _pointwise(self, aten: str, node: Node, index: Index) -> Expression:
        tensors = [a for a in node.args if isinstance(a, Ref)]
        dtype = node.dtype
        if aten in operators.COMPARISONS and tensors:
            dtype = self.dtype(tensors[0].name)
            if any(isinstance(a, float) for a in node.args) and not dtype.startswith(
                ("float", "bfloat")
            ):
                dtype = "float32"
        self._refuse_lost_mutation(node)
        keyword_tensors = [a for a in node.kwargs.values() if isinstance(a, Ref)]
        count = operators.OPERANDS.get(aten, 1)
        if aten in ("clamp", "clip"):
            given = [a for a in node.args if isinstance(a, Ref)] + keyword_tensors
        else:
            given = list(node.args[:count])  # type: ignore[arg-type]
        operands = [self.operand(a, index, dtype) for a in given]

        def option(position: int, key: str, default: object) -> object:
            if key in node.kwargs:
                return node.kwargs[key]
            return node.args[position] if position < len(node.args) else default

        return operators.build(aten, operands, option, node.dtype, node.name)

    def _refuse_lost_mutation(self, node: Node) -> None:
        """An in-place operator is its functional form if nothing reads its operand later."""
        name = node.op.split(".")[1]
        if not name.endswith("_") or name.endswith("__"):
            return
        target = node.args[0]
        assert isinstance(target, Ref)
        graph = self.piece.graph
        order = [n.name for n in graph.nodes]
        later = order[order.index(node.name) + 1 :]
        read_again = any(user.name in later for user in graph.users(target.name))
        source = graph.node(target.name)
        is_view = source is None or base_name(source) in views.VIEWS
        if read_again or is_view:
            raise Unsupported(f"No playbook idea covers {node.op} on a value that is read again.")


def in_order(values: Sequence[Expression]) -> bool:
    """Whether the values depend on the order of the columns. Raises Unsupported for mixtures."""
    found = statistics(*values)
    if not (runs := scans(*values)) and not any(scans(s.body) for s in found):
        return any(s.kind.startswith("arg") for s in found)
    bodies = [scan.statistic.body for scan in runs]
    if found or statistics(*bodies) or scans(*bodies):
        raise Unsupported("No playbook idea covers a scan and a reduction, or two scans, in one.")
    return True


def base_name(node: Node) -> str:
    """``gelu`` of ``aten.gelu.default`` and of ``aten.gelu_.default``."""
    parts = node.op.split(".")
    return parts[1].rstrip("_") if len(parts) > 1 and parts[0] == "aten" else node.op
