"""The module's ATen graph, from ``torch.export``, as plain data.

The training IR is taken: composite operators stay (``aten.layer_norm``, ``aten.softmax.int``).
Where it holds in-place operators it is functionalised first, with an empty table of
decompositions. What is the identity in a forward pass (dropout in eval, detach) is left out.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch.export.graph_signature import InputKind

from search_engine.capture.call import Call, leaves, map_tensors
from search_engine.capture.multi_output import single
from search_engine.capture.outputs import output_leaves
from search_engine.capture.where import message, place
from search_engine.graph import Argument, Graph, Node, Ref
from search_engine.task import ITEM_BYTES

_IDENTITIES = frozenset(
    {"aten.detach.default", "aten.alias.default", "aten.lift_fresh_copy.default"}
)
_DROPOUTS = frozenset({"aten.dropout.default", "aten.feature_dropout.default"})
# The identity where shape and dtype stay: x[:n] of n rows, .to() the dtype that it has.
_RESHAPES = frozenset(
    f"aten.{name}"
    for name in (
        "slice.Tensor", "view.default", "reshape.default", "expand.default", "to.dtype",
        "to.dtype_layout", "to.device",
    )
)  # fmt: skip
# Regions of the graph that autocast or grad mode was set for: where each has its body.
_REGIONS = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}
_FEW = 32  # numbers of a constant tensor that are written into the graph
_USER_LINE = re.compile(r'File "([^"]+)", line (\d+)')


class Unsupported(Exception):
    """There is no graph; the message is one plain sentence."""


@frozen
class Names:
    """Contract names of what ``torch.export`` calls placeholders.

    ``inputs`` in the order of the call's tensors; ``state`` by export's own target names.
    """

    inputs: tuple[str, ...]
    state: Mapping[str, str]
    outputs: tuple[str, ...]


def export(module: torch.nn.Module, call: Call, names: Names, path: str) -> Graph:
    """The graph of ``module`` on ``call``. Raises Unsupported with the reason."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # export prints graphs and hints about every failure
    try:
        with torch.no_grad(), warnings.catch_warnings(), _flat(module, call, names) as tensors:
            warnings.simplefilter("ignore")
            program = torch.export.export(module, tensors, strict=False)
            functional = not any(_in_place(node) for node in _all_nodes(program))
            if not functional:
                program = program.run_decompositions({})
    except Exception as error:
        raise Unsupported(_reason(error, path)) from error
    finally:
        logging.disable(disabled)
    # Functionalisation leaves copies behind that no user wrote.
    skipped = _IDENTITIES if functional else _IDENTITIES | {"aten.clone.default"}
    return _Reader(program, names, skipped).graph()


@contextlib.contextmanager
def _flat(module: torch.nn.Module, call: Call, names: Names) -> Iterator[tuple[torch.Tensor, ...]]:
    """Within it ``module`` takes the call's tensors and returns a tuple of the named outputs.

    Export knows few containers, and specialises on everything else anyway.
    """
    forward = module.forward

    def flat(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(names.inputs, tensors, strict=True))
        unpacked = map_tensors(forward, call, lambda name, _: given[name])
        found = output_leaves(forward(*unpacked.args, **unpacked.kwargs))
        return tuple(found[name] for name in names.outputs)

    before = vars(module).get("forward")
    vars(module)["forward"] = flat
    try:
        yield tuple(v for _, v in leaves(forward, call) if isinstance(v, torch.Tensor))
    finally:
        del vars(module)["forward"]
        if before is not None:
            vars(module)["forward"] = before


def _kind(node: torch.fx.Node) -> str:
    """The name of a higher-order operator, ``wrap_with_autocast``; empty for any other node."""
    target = node.target
    return target.name() if isinstance(target, torch._ops.HigherOrderOperator) else ""


def _all_nodes(program: torch.export.ExportedProgram) -> Iterator[torch.fx.Node]:
    """The nodes of the graph and of the regions in it."""
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from part.graph.nodes


def _in_place(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and bool(schema.is_mutable)


def _reason(error: Exception, path: str) -> str:
    """One sentence on why export failed, with the user's line where it is known."""
    text = str(error)
    where = place(error, path)
    if ":" not in where:
        lines = [m for m in _USER_LINE.findall(text) if Path(m[0]) == Path(path)]
        where = f"{Path(path).name}:{lines[-1][1]}" if lines else where
    kind = type(error).__name__
    if "DataDependent" in kind or "data-dependent" in text or "DynamicOutputShape" in kind:
        return f"Control flow or shapes depend on the data at {where}, so there is no graph."
    return f"torch.export could not trace forward at {where} ({message(error)})."


class _Reader:
    """Reads one exported program."""

    def __init__(
        self, program: torch.export.ExportedProgram, names: Names, skipped: Collection[str]
    ) -> None:
        self._program = program
        self._skipped = skipped  # operators that stand for their first argument
        self._names = names
        self._values: dict[str, Argument] = {}  # of fx nodes by name: a Ref or a literal
        self._parts: dict[str, tuple[Argument, ...]] = {}  # what regions give, by fx node
        self._inputs: list[str] = []
        self._nodes: list[Node] = []
        self._taken = {*names.inputs, *names.state.values(), *names.outputs}

    def graph(self) -> Graph:
        self._placeholders()
        outputs = self._body(self._program.graph_module)
        pairs = []
        for name, value in zip(self._names.outputs, outputs, strict=True):
            if not isinstance(value, Ref):
                raise Unsupported(f"The output {name} is a constant.")
            pairs.append((name, value.name))
        read = {name for node in self._nodes for name in node.references()}
        return Graph(
            inputs=tuple(name for name in self._inputs if name in read),
            nodes=_needed(self._nodes, [value for _, value in pairs]),
            outputs=tuple(pairs),
        )

    def _body(self, module: torch.fx.GraphModule) -> tuple[Argument, ...]:
        """Read all calls of the graph, or of a region in it; what it gives."""
        outputs: tuple[Argument, ...] = ()
        for node in module.graph.nodes:
            if node.op == "call_function" and _kind(node) in _REGIONS:
                self._region(node, module)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                outputs = tuple(self._argument(a) for a in node.args[0])
            elif node.op == "get_attr" and any(_kind(user) not in _REGIONS for user in node.users):
                raise Unsupported(
                    "forward uses control flow operators, so there is no plain graph."
                )
        return outputs

    def _region(self, node: torch.fx.Node, module: torch.fx.GraphModule) -> None:
        """A part of forward under ``torch.autocast(..., enabled=False)`` or a grad mode.

        Capture runs forward without either, so that the part is what it says.
        """
        place = _REGIONS[_kind(node)]
        if _kind(node) == "wrap_with_autocast" and node.args[2]:
            raise Unsupported(
                "forward turns autocast on, which converts by operator: convert with .to() instead."
            )
        body: Any = node.args[place]
        part = module.get_submodule(str(body.target))
        assert isinstance(part, torch.fx.GraphModule), f"{node.target} of {body.target}"
        given = [self._argument(a) for a in node.args[place + 1 :]]
        outside, self._values = self._values, {}
        holes = [inner for inner in part.graph.nodes if inner.op == "placeholder"]
        for hole, value in zip(holes, given, strict=True):
            self._values[hole.name] = value
        found = self._body(part)
        self._values = outside
        self._parts[node.name] = found

    def _placeholders(self) -> None:
        """Bind placeholders to contract names, and scalars to their values."""
        signature = self._program.graph_signature
        kinds = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        user = iter(self._names.inputs)
        for node in self._program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = kinds[node.name]
            value = node.meta.get("val")
            if spec.kind is InputKind.USER_INPUT:
                if isinstance(value, torch.Tensor):
                    self._bind(node.name, next(user))
                else:
                    self._values[node.name] = self._literal(value)
            elif spec.target in self._names.state:
                self._bind(node.name, self._names.state[spec.target])
            else:
                self._lifted(node.name, spec.target)

    def _bind(self, placeholder: str, name: str) -> None:
        self._values[placeholder] = Ref(name)
        if name not in self._inputs:
            self._inputs.append(name)

    def _lifted(self, placeholder: str, target: str | None) -> None:
        """A tensor made in forward or global in the file: its numbers, where they are few."""
        tensor = self._program.constants.get(target or "")
        if isinstance(tensor, torch.Tensor) and tensor.dim() == 0:
            self._values[placeholder] = tensor.item()
        elif isinstance(tensor, torch.Tensor) and 0 < tensor.numel() <= _FEW:
            self._values[placeholder] = self._spelt(placeholder, tensor)
        else:
            raise Unsupported(
                "forward reads a tensor that is no attribute of the module: make it a buffer."
            )

    def _spelt(self, name: str, tensor: torch.Tensor) -> Ref:
        """The tensor as nodes, one for each of its numbers."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in ITEM_BYTES:
            raise Unsupported(f"forward reads a tensor of {dtype}, which kernels do not have.")
        numbers = tuple(
            self._node(f"{name}_{place}", "aten.full.default", ((1,), number), dtype, (1,))
            for place, number in enumerate(tensor.flatten().tolist())
        )
        line = (tensor.numel(),)
        joined = self._node(f"{name}_line", "aten.cat.default", (numbers, 0), dtype, line)
        shape = tuple(tensor.shape)
        return self._node(name, "aten.view.default", (joined, shape), dtype, shape)

    def _node(
        self, name: str, op: str, args: tuple[Argument, ...], dtype: str, shape: tuple[int, ...]
    ) -> Ref:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self._nodes.append(Node(name, op, args, {}, dtype, shape))
        return Ref(name)

    def _call(self, node: torch.fx.Node) -> None:
        target: Any = node.target
        value = node.meta.get("val")
        if target is operator.getitem:
            if node.users:
                self._getitem(node)
            return
        op = str(target)
        if not isinstance(target, torch._ops.OpOverload):
            raise Unsupported(f"forward uses {op}, which is no ATen operator.")
        if value is None or op.startswith("aten.sym_"):
            return  # an assertion about sizes or dtypes
        if isinstance(value, (tuple, list)):
            return  # read by getitem nodes
        if not isinstance(value, torch.Tensor):
            raise Unsupported(f"{op} gives a number that depends on the data.")
        dropped = op in _DROPOUTS and not (node.args[1] and node.args[2])
        if op in self._skipped or dropped or (op in _RESHAPES and _changes_nothing(node)):
            self._values[node.name] = self._argument(node.args[0])
            return
        args = tuple(self._argument(a) for a in node.args)
        kwargs = {key: self._argument(a) for key, a in node.kwargs.items()}
        self._add(node, op, args, kwargs)

    def _getitem(self, node: torch.fx.Node) -> None:
        source: Any = node.args[0]
        if source.name in self._parts and _kind(source) in _REGIONS:
            position: Any = node.args[1]
            self._values[node.name] = self._parts[source.name][position]
            return
        op = str(source.target)
        args = tuple(self._argument(a) for a in source.args)
        kwargs = {key: self._argument(a) for key, a in source.kwargs.items()}
        first: Any = source.args[0] if source.args else None
        of = first if isinstance(first, torch.fx.Node) else node
        value = of.meta["val"]
        sizes = value.shape if isinstance(value, torch.Tensor) else ()
        shape = tuple(self._size(s, op) for s in sizes)
        index: Any = node.args[1]
        replaced = single(op, args, kwargs, index, shape)
        if replaced is None:
            raise Unsupported(f"No playbook idea covers {op}, which gives several results, yet.")
        self._add(node, *replaced)

    def _add(
        self, node: torch.fx.Node, op: str, args: tuple[Argument, ...], kwargs: dict[str, Argument]
    ) -> None:
        value = node.meta["val"]
        name = node.name
        while name in self._taken:
            name += "_"
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in ITEM_BYTES:
            raise Unsupported(f"{op} gives {dtype}, which kernels do not have.")
        self._taken.add(name)
        self._values[node.name] = Ref(name)
        shape = tuple(self._size(s, op) for s in value.shape)
        self._nodes.append(Node(name, op, args, kwargs, dtype, shape))

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, torch.fx.Node):
            if value.name not in self._values:
                raise Unsupported(f"{value.target} gives several results that are used together.")
            return self._values[value.name]
        return self._literal(value)

    def _size(self, size: int | torch.SymInt, what: str) -> int:
        if isinstance(size, torch.SymInt) and not size.node.expr.is_number:
            raise Unsupported(f"The shape of {what} depends on the data, so there is no graph.")
        return int(size)

    def _literal(self, value: Any) -> Argument:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return tuple(self._argument(item) for item in value)
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format, torch.device)):
            return str(value).removeprefix("torch.")
        if isinstance(value, torch.SymInt):
            return self._size(value, "a size")
        raise Unsupported(f"An argument of type {type(value).__name__} has no place in the graph.")


def _changes_nothing(node: torch.fx.Node) -> bool:
    source: Any = node.args[0]
    before, after = source.meta.get("val"), node.meta["val"]
    return (
        isinstance(before, torch.Tensor)
        and before.dtype == after.dtype
        and before.shape == after.shape
    )


def _needed(nodes: list[Node], outputs: list[str]) -> tuple[Node, ...]:
    """The nodes that the outputs depend on, in order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.references())
            kept.append(node)
    return tuple(reversed(kept))
