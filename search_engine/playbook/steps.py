"""A task's graph as a line of steps, and the loop nest of any stretch of that line.

A *step* is a node that is computed once: its value is stored where a later stretch reads it.
All other nodes are *light* and computed anew by whoever reads them: views, filled tensors,
casts, cheap pointwise work on parameters.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from attrs import evolve

from search_engine.graph import Argument, Graph, Node, Ref
from search_engine.playbook import operators, views
from search_engine.playbook.analyse import base_name, nest, whole
from search_engine.playbook.index import strides_of
from search_engine.playbook.names import identifier, unused
from search_engine.playbook.program import Program, Unsupported
from search_engine.playbook.space import Piece
from search_engine.task import Task, TensorSpec

_MADE = frozenset({*operators.FILLED, "arange", "eye"})  # that read nothing
_LIGHT_PARAMETERS = frozenset({"add", "sub", "mul", "neg", "abs", "exp", "sigmoid", "square"})


class Steps:
    """The steps of a task's graph in order of execution.

    ``kept`` names views that are to be materialised although they move no values. Raises
    Unsupported where there is no graph to read.
    """

    def __init__(self, task: Task, kept: frozenset[str] = frozenset()) -> None:
        self.task, self.kept = task, kept
        piece = whole(task)
        self.graph: Graph = piece.graph
        self.inputs = piece.tensors
        self._order = {node.name: position for position, node in enumerate(self.graph.nodes)}
        self._needs: dict[str, frozenset[str]] = {}
        alive = self._alive()
        self._light = {node.name for node in alive if self._is_light(node)}
        self._outputs: list[tuple[TensorSpec, str]] = []
        for spec, value in piece.outputs:
            shaped, source = self._reshaped(spec, value)
            if source in self._light and len(self._sources(source)) != 1:
                self._light.discard(source)
            self._outputs.append((shaped, source))
        self.nodes = tuple(node for node in alive if node.name not in self._light)
        self.place = {node.name: position for position, node in enumerate(self.nodes)}
        self._needs.clear()
        self._memory = self._places_in_memory()
        self._last = self._last_uses()
        self._programs: dict[tuple[int, int], Program | Unsupported] = {}

    # --- stretches --------------------------------------------------------------------

    def program(self, begin: int, end: int) -> Program:
        """The loop nest of steps ``begin`` … ``end`` − 1. Raises Unsupported."""
        key = (begin, end)
        if key not in self._programs:
            try:
                self._programs[key] = nest(self.piece(begin, end))
            except Unsupported as reason:
                self._programs[key] = reason
        found = self._programs[key]
        if isinstance(found, Unsupported):
            raise found
        return found

    def piece(self, begin: int, end: int) -> Piece:
        """What a stretch computes, and what it stores for others."""
        own = {node.name: node for node in self.nodes[begin:end]}
        outputs = [(spec, value) for spec, value in self._outputs if self._home(value) in own]
        stored = {value for _, value in outputs}
        outputs += [
            (self._memory[name], name)
            for name in own
            if self._last.get(name, -1) >= end and name not in stored
        ]
        nodes = dict(own)
        pending = [*own, *(value for _, value in outputs)]
        while pending:
            node = self.graph.node(pending.pop())
            if node is None:
                continue
            nodes[node.name] = node
            pending += [ref for ref in node.references() if ref in self._light]
        outside = {
            ref
            for node in nodes.values()
            for ref in node.references()
            if ref in self.place and ref not in own
        }
        tensors = {**self.inputs, **{name: self._memory[name] for name in outside}}
        return Piece(self.graph, nodes, tensors, tuple(outputs), self.task.tf32)

    def signature(self, begin: int, end: int) -> Hashable:
        """What a stretch computes, whatever its values are called: layers repeat themselves."""
        piece = self.piece(begin, end)
        numbers: dict[str, int] = {}

        def told(argument: Argument) -> Hashable:
            if isinstance(argument, tuple):
                return tuple(told(item) for item in argument)
            if not isinstance(argument, Ref):
                return type(argument).__name__, argument
            name = argument.name
            known = name in numbers
            number = numbers.setdefault(name, len(numbers))
            spec = piece.tensors.get(name)
            if known or name in piece.nodes or spec is None:
                return "ref", number
            return "tensor", number, spec.shape, spec.stride, spec.dtype

        parts: list[Hashable] = []
        for name in sorted(piece.nodes, key=self._order.__getitem__):
            node = piece.nodes[name]
            arguments = tuple(told(argument) for argument in node.args)
            keywords = tuple((key, told(value)) for key, value in sorted(node.kwargs.items()))
            # Whether an operator in place is one depends on the rest of the graph.
            in_place = name if "_." in node.op else ""
            parts.append((node.op, arguments, keywords, node.shape, node.dtype, in_place))
            numbers.setdefault(name, len(numbers))
        for spec, value in piece.outputs:
            parts.append((told(Ref(value)), spec.shape, spec.stride, spec.dtype))
        return tuple(parts)

    def scratch(self, begin: int, end: int) -> tuple[TensorSpec, ...]:
        """What a stretch leaves in scratch memory for later ones."""
        given = {spec.name for spec in self.task.outputs}
        return tuple(spec for spec, _ in self.piece(begin, end).outputs if spec.name not in given)

    def name(self, begin: int, end: int) -> str:
        """What a stretch does, as an identifier: ``conv2d_relu``, ``softmax``."""
        ops = [base_name(node).strip("_") for node in self.nodes[begin:end]]
        costly = [op for op in ops if not operators.covers(op, "float32")]
        chosen = [*costly[:2], *(op for op in ops[-1:] if op not in costly)]
        name = "_".join(dict.fromkeys(chosen or ops[-1:]))
        return name if identifier(name) == name else identifier(f"apply_{name}")

    def moving_views(self) -> frozenset[str]:
        """Light views that read their operand in another order, or not all of it."""
        return frozenset(
            name
            for name in self._light
            if (node := self.graph.node(name)) is not None
            and base_name(node) in views.VIEWS
            and base_name(node) not in views.RESHAPES
        )

    # --- what is light ----------------------------------------------------------------

    def _alive(self) -> list[Node]:
        """Nodes that an output depends on, in order."""
        wanted = {value for _, value in self.graph.outputs}
        for node in reversed(self.graph.nodes):
            if node.name in wanted:
                wanted.update(node.references())
        return [node for node in self.graph.nodes if node.name in wanted]

    def _is_light(self, node: Node) -> bool:
        aten = base_name(node)
        if node.name in self.kept:
            return False
        if aten in views.VIEWS or aten in _MADE or aten in views.CASTS:
            return True
        fixed = all(
            ref in self.inputs and self.inputs[ref].role != "input" for ref in node.references()
        )
        return fixed and aten in _LIGHT_PARAMETERS

    def _sources(self, name: str) -> frozenset[str]:
        """The steps that a value is made from by light work alone; itself where it is one."""
        if name in self._needs:
            return self._needs[name]
        node = self.graph.node(name)
        if node is None:
            found: frozenset[str] = frozenset()
        elif name not in self._light:
            found = frozenset({name})
        else:
            found = frozenset().union(*(self._sources(ref) for ref in node.references()))
        self._needs[name] = found
        return found

    def _home(self, value: str) -> str | None:
        """The step whose stretch stores an output's value."""
        return max(self._sources(value), key=self.place.__getitem__, default=None)

    # --- memory -----------------------------------------------------------------------

    def _reshaped(self, spec: TensorSpec, value: str) -> tuple[TensorSpec, str]:
        """A contiguous output that is the mere reshape of a value, as that value's memory."""
        node = self.graph.node(value)
        while (
            spec.contiguous
            and node is not None
            and value in self._light
            and base_name(node) in views.RESHAPES
        ):
            value = views.source(node)
            shape = self._shape(value)
            spec = evolve(spec, shape=shape, stride=strides_of(shape))
            node = self.graph.node(value)
        return spec, value

    def _shape(self, value: str) -> tuple[int, ...]:
        node = self.graph.node(value)
        return self.inputs[value].shape if node is None else node.shape

    def _places_in_memory(self) -> dict[str, TensorSpec]:
        """Where every step's value lies once it is stored: in an output, or in scratch."""
        taken = {tensor.name for tensor in self.task.tensors} | set(self.task.scalars)
        taken |= {"sm_count", "ceil_div"}
        found: dict[str, TensorSpec] = {}
        for spec, value in self._outputs:
            if value in self.place:
                found.setdefault(value, spec)
        for node in self.nodes:
            if node.name not in found:
                plain = identifier(node.name) == node.name
                name = unused(node.name if plain else identifier(f"{node.name}_out"), taken)
                taken.add(name)
                found[node.name] = TensorSpec(
                    name, "output", node.dtype, node.shape, strides_of(node.shape)
                )
        return found

    def _last_uses(self) -> dict[str, int]:
        """The position of the last step that reads each step's value."""
        last: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for ref in node.references():
                for name in self._sources(ref):
                    last[name] = position
        return last

    def batch_size(self, spec: TensorSpec) -> tuple[str, int] | None:
        """The input whose first dimension the tensor's follows, and how many times that it is.

        A kernel is also run on a smaller batch: scratch sizes and grids have to follow.
        """
        inputs = [t for t in self.task.inputs if t.shape]
        if not inputs or not spec.shape:
            return None
        lead = max(inputs, key=lambda tensor: tensor.numel)
        if spec.shape[0] % lead.shape[0]:
            return None
        value = next(name for name, own in self._memory.items() if own.name == spec.name)
        if not self._reads(value, {t.name for t in inputs if t.shape[0] == lead.shape[0]}):
            return None
        return lead.name, spec.shape[0] // lead.shape[0]

    def _reads(self, value: str, wanted: set[str]) -> bool:
        """Whether the value depends on one of the tensors."""
        seen: set[str] = set()
        pending = [value]
        while pending:
            name = pending.pop()
            if name in wanted:
                return True
            node = self.graph.node(name)
            if node is not None and name not in seen:
                seen.add(name)
                pending += node.references()
        return False


def uncovered(steps: Steps) -> Iterator[tuple[Node, Unsupported]]:
    """The steps that are no loop nest even by themselves, with the reason."""
    for position, node in enumerate(steps.nodes):
        try:
            steps.program(position, position + 1)
        except Unsupported as reason:
            yield node, reason
