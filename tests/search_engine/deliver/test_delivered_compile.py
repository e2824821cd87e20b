"""A delivered file under torch.compile."""

import pytest
import torch
from torch import nn

from search_engine.capture.outputs import taken_apart

pytestmark = pytest.mark.usefixtures("strict")
X = torch.randn(4, 8)


def test_compile_takes_it_whole(deliver, expected):
    found = deliver()
    net = found.user.Net().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), expected(found, X))
    assert found.gpu.runs == 1
    torch.testing.assert_close(compiled(X.clone()), expected(found, X))
    assert found.gpu.runs == 2


def test_compile_uses_the_operator(deliver, expected):
    found = deliver()
    graphs = []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph.forward

    net = found.user.Net().eval()
    compiled = torch.compile(lambda x: net(x) + 1, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(X), expected(found, X) + 1)
    assert "kernel_lsp_" in graphs[0]
    assert "layer_norm" not in graphs[0]


def test_the_operator_is_sound(deliver):
    found = deliver()
    net = found.user.Net().eval()
    operands = [X, net.norm.weight.detach(), net.norm.bias.detach()]
    torch.library.opcheck(found.user.Net.forward.__kernel_lsp__.operator, (operands, 0))


RESULTS = """
import collections
from dataclasses import dataclass
from typing import NamedTuple


class Pair(NamedTuple):
    first: torch.Tensor
    rows: int


@dataclass
class Output:
    logits: torch.Tensor
    parts: list
    none: object = None


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x, scale: float = 1.0):
        y = (self.norm(x) ** 2 + 1.0) * 3.0
        return {}
"""


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        ("y, {'a': [y * 2], 1: 'one'}, y", "out.0, out.1.a.0"),
        ("[y]", "out.0"),
        ("Pair(y, x.shape[0])", "out.first"),
        ("Output(y, parts=[y * 2, (y * 3,)])", "out.logits, out.parts.0, out.parts.1.0"),
        ("collections.OrderedDict(a=y)", "out.a"),
    ],
)
def test_any_structure_is_returned(deliver, kit, returned, outputs):
    text = "import torch\nfrom torch import nn\n" + RESULTS.format(returned)
    found = deliver(text, kernel=kit.KERNEL.replace("partial, out", f"partial, {outputs}"))
    net = found.user.Net().eval()
    wanted = net.forward.__wrapped__(net, X)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for number, run in enumerate((net, compiled), 1):
        got = run(X)
        assert found.gpu.runs == number
        assert type(got) is type(wanted)
        (tensors, tree), (expected, wanted_tree) = taken_apart(got), taken_apart(wanted)
        assert tree == wanted_tree
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, expected[name])
    if returned.endswith(", y"):
        assert got[0] is got[2]


@pytest.mark.parametrize(
    "case", ["grad", "shape", "attribute", "hook", "autocast", "type", "source", "vmap", "gpu"]
)
def test_compile_falls_back_silently(deliver, case):
    change = (
        (lambda text: text.replace("x + 1.0", "x + 2.0"))
        if case == "source"
        else (lambda text: text)
    )
    found = deliver(change=change)
    net, x = found.user.Net().eval(), X
    context = torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast")
    if case == "shape":
        x = torch.randn(7, 8)
    elif case == "attribute":
        net.power = 3
    elif case == "hook":
        net.norm.register_forward_hook(lambda module, args, out: out * 2)
    elif case == "type":
        net.norm = type("Norm", (nn.LayerNorm,), {"__module__": __name__})(8)
    elif case == "gpu":
        found.gpu.model = "NVIDIA L40S"
    function = torch.func.vmap(lambda x: net(x)) if case == "vmap" else net
    x = torch.stack([x, x]) if case == "vmap" else x
    with context, torch.set_grad_enabled(case == "grad"):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        original = net.forward.__wrapped__
        wanted = torch.stack([original(net, i) for i in x]) if case == "vmap" else original(net, x)
        torch.testing.assert_close(compiled(x), wanted, check_dtype=False, rtol=1e-2, atol=1e-2)
    assert found.gpu.runs == 0


def test_compile_sees_later_changes(deliver):
    found = deliver()
    net = found.user.Net().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(X)
    net.power = 3
    torch.testing.assert_close(compiled(X), net.forward.__wrapped__(net, X))
    assert found.gpu.runs == 1
