"""JSON of the engine's attrs types, through cattrs: the only converter."""

from __future__ import annotations

from typing import Any, TypeVar

from cattrs.preconf.json import make_converter

from search_engine.graph import Argument, Graph, Node, Ref

T = TypeVar("T")

_converter = make_converter(omit_if_default=False)


def _argument_to_json(argument: Argument) -> Any:
    if isinstance(argument, Ref):
        return {"ref": argument.name}
    if isinstance(argument, tuple):
        return [_argument_to_json(item) for item in argument]
    if isinstance(argument, float) and argument in (float("inf"), float("-inf")):
        return {"float": repr(argument)}
    return argument


def _argument_from_json(value: Any) -> Argument:
    if isinstance(value, dict):
        return Ref(value["ref"]) if "ref" in value else float(value["float"])
    if isinstance(value, list):
        return tuple(_argument_from_json(item) for item in value)
    return value


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op,
        "args": [_argument_to_json(a) for a in node.args],
        "kwargs": {key: _argument_to_json(a) for key, a in node.kwargs.items()},
        "dtype": node.dtype,
        "shape": list(node.shape),
    }


def _node_from_json(value: dict[str, Any], _: type) -> Node:
    return Node(
        name=value["name"],
        op=value["op"],
        args=tuple(_argument_from_json(a) for a in value["args"]),
        kwargs={key: _argument_from_json(a) for key, a in value["kwargs"].items()},
        dtype=value["dtype"],
        shape=tuple(value["shape"]),
    )


def _graph_to_json(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": list(graph.inputs),
        "nodes": [_node_to_json(node) for node in graph.nodes],
        "outputs": [list(pair) for pair in graph.outputs],
    }


def _graph_from_json(value: dict[str, Any], _: type) -> Graph:
    return Graph(
        inputs=tuple(value["inputs"]),
        nodes=tuple(_node_from_json(node, Node) for node in value["nodes"]),
        outputs=tuple((a, b) for a, b in value["outputs"]),
    )


def _scalar_from_json(value: Any, _: Any) -> Any:
    return value


_converter.register_unstructure_hook(Node, _node_to_json)
_converter.register_structure_hook(Node, _node_from_json)
_converter.register_unstructure_hook(Graph, _graph_to_json)
_converter.register_structure_hook(Graph, _graph_from_json)
_converter.register_structure_hook_func(
    lambda t: t == "int | float | bool" or str(t) in ("int | float | bool", "Scalar"),
    _scalar_from_json,
)


def dumps(value: Any) -> str:
    """JSON of an attrs object, or of a list or dict of them."""
    return _converter.dumps(value)


def loads(text: str, kind: type[T]) -> T:
    """The object of class ``kind`` that ``dumps`` wrote."""
    return _converter.loads(text, kind)
