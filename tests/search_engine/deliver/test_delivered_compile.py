"""A delivered file under torch.compile."""

import pytest
import torch
from torch import nn

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
