"""What forward may return: the tensors by name, and what they stand in."""

import collections
import dataclasses
from typing import NamedTuple

import pytest
import torch

from search_engine.capture.outputs import shared, taken_apart
from search_engine.capture.structure import Branch, Constant, Slot, has_numbers, renamed
from search_engine.errors import CaptureError

A, B = torch.ones(2), torch.zeros(3)


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


@pytest.mark.parametrize(
    ("result", "names", "kind"),
    [
        (A, ["out"], None),
        ((A, B), ["out.0", "out.1"], "tuple"),
        ([A, B], ["out.0", "out.1"], "list"),
        ({"a": A, 1: B}, ["out.a", "out.1"], "dict"),
        (collections.OrderedDict(a=A), ["out.a"], "mapping"),
        (Pair(A, B), ["out.first", "out.second"], "items"),
        (Output(A), ["out.logits"], "fields"),
        ((A, ({"k": [B]}, None)), ["out.0", "out.1.0.k.0"], "tuple"),
        (torch.ones(2, 3).max(1), ["out.0", "out.1"], "sequence"),
    ],
)
def test_names_and_containers(result, names, kind):
    tensors, tree = taken_apart(result)
    assert list(tensors) == names
    assert tree == Slot("out") if kind is None else tree.kind == kind


def test_a_class_is_known_by_its_name():
    _, tree = taken_apart(Output(A, None))
    assert (tree.module, tree.qualname) == (__name__, "Output")
    assert tree.items == (Slot("out.logits"), Constant(None))
    assert tree.keys == ("logits", "hidden")


def test_python_values_beside_tensors():
    _, tree = taken_apart((A, 3, 0.5, "name", True, None))
    assert tree.items[1:] == tuple(Constant(v) for v in (3, 0.5, "name", True, None))
    assert has_numbers(tree)
    assert not has_numbers(taken_apart((A, None))[1])


def test_the_same_tensor_twice():
    tensors, tree = taken_apart((A, B, {"again": A}))
    assert shared(tensors) == {"out.2.again": "out.0"}
    assert renamed(tree, shared(tensors)).items[2].items == (Slot("out.0"),)
    assert isinstance(tree, Branch)


def test_what_no_kernel_returns():
    @dataclasses.dataclass
    class Local:
        a: torch.Tensor

    for result, sentence in [
        (3, r"returns no tensor \(int\)"),
        ((), r"returns no tensor \(tuple\)"),
        ((A, object()), "returns object at out.1: a tensor, or a tuple"),
        ({"a b": A}, "with the key 'a b': keys of letters"),
        ({("a",): A}, r"with the key \('a',\)"),
        ({"1": A, 1: B}, "two tensors that are named 'out.1'"),
        (Local(A), "move the class to the top of its file"),
    ]:
        with pytest.raises(CaptureError, match=sentence):
            taken_apart(result)


FORWARD = "class Net(nn.Module):\n    def forward(self, x):\n        "
INPUTS = "\ndef get_inputs(): return [torch.randn(4, 8)]\n"


@pytest.mark.parametrize(
    ("returned", "outputs", "nodes"),
    [
        ("x * 2, x + 1", ["out.0", "out.1"], 2),
        ("{'a': x * 2, 'n': None}", ["out.a"], 1),
        ("x * 2, x.shape[0]", ["out.0"], 1),
        ("torch.max(x * 2, dim=1)", ["out.0", "out.1"], 3),
        ("(lambda a: (a, [a]))(x * 2)", ["out.0"], 1),
    ],
)
def test_the_task_and_its_graph(take, returned, outputs, nodes):
    captured = take(FORWARD + f"return {returned}\n" + INPUTS)
    task = captured.task
    assert [t.name for t in task.outputs] == outputs
    assert [name for name, _ in task.graph.outputs] == outputs
    assert len(task.graph.nodes) == nodes
    assert list(captured.run(captured.draw(5))) == outputs


def test_tensors_that_are_one_only_in_some_precision(take):
    text = "return (lambda a: (a, a.float()))(x.half() * 2)\n"
    captured = take(FORWARD + text + INPUTS)
    # In float32 the second is the first itself; in the task it is a tensor of its own.
    assert [t.name for t in captured.task.outputs] == ["out.0", "out.1"]
    single = take(FORWARD + text.replace("x.half()", "x") + INPUTS)
    assert [t.name for t in single.task.outputs] == ["out.0"]
