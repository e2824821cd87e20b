"""What a delivered file does, with a GPU that is not there: see conftest's FakeGpu."""

import copy
import importlib
import inspect
import pickle

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("strict")
X = torch.randn(4, 8)


def test_the_kernel_runs_in_place_of_forward(deliver):
    found = deliver()
    net = found.user.Net().eval()
    with torch.no_grad():
        net.norm.weight.uniform_()
    torch.testing.assert_close(net(X), net.forward.__wrapped__(net, X))
    assert found.gpu.runs == 1
    assert found.kernel.explain(net, X) == "kernel"
    assert list(found.gpu.buffers) == ["x", "norm.weight", "norm.bias", "out", "scratch"]
    assert found.gpu.buffers["scratch"].shape == (256,)  # 4 × 2 floats
    assert found.gpu.buffers["x"].data_ptr() == X.data_ptr()


def test_parameters_are_read_at_every_call(deliver):
    found = deliver()
    net = found.user.Net().eval()
    before = net(X)
    net.norm.bias.data += 1
    after = net(X)
    assert not torch.equal(before, after)
    net.load_state_dict(found.user.Net().state_dict())
    torch.testing.assert_close(net(X), before)
    assert (found.gpu.runs, found.gpu.loads) == (3, 1)


def test_the_launches_are_those_of_the_plan(deliver):
    found = deliver()
    (case,) = found.verified.cases
    first, second = case.launches
    assert first.arguments == ("x", "partial", ("int", 8))
    assert (first.grid, first.block, first.shared) == ((4, 1, 1), (32, 1, 1), 0)
    assert second.arguments[-1] == ("float", 1.0)
    assert second.shared == 128


def test_a_base_that_is_not_aligned_is_copied(deliver, expected):
    found = deliver()
    net = found.user.Net().eval()
    x = torch.randn(33)[1:].view(4, 8)
    assert x.data_ptr() % 16
    torch.testing.assert_close(net(x), expected(found, x))
    assert found.gpu.runs == 1
    assert found.gpu.buffers["x"].data_ptr() % 16 == 0


def test_signature_documentation_and_identity(deliver):
    found = deliver()
    net = found.user.Net()
    assert inspect.signature(net.forward) == inspect.signature(found.original().forward)
    assert found.user.Net.__mro__[1:] == found.original.__mro__[1:]
    assert found.user.Net.forward.__qualname__ == "Net.forward"
    assert found.user.Net.forward.__module__ == found.user.__name__
    assert "shifted" in inspect.getsource(found.user.Net.forward)
    assert repr(net) == repr(found.original())
    assert list(net.state_dict()) == list(found.original().state_dict())


def test_pickle_deepcopy_and_hooks(deliver, expected):
    found = deliver()
    net = found.user.Net().eval()
    wanted = net(X)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        torch.testing.assert_close(other(X), wanted)
    assert found.gpu.runs == 3
    seen = []
    net.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    net.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    torch.testing.assert_close(net(X), expected(found, X * 2))
    assert seen == [(4, 8)]
    assert found.gpu.runs == 4


def test_keyword_arguments_and_defaults(deliver):
    found = deliver()
    net = found.user.Net().eval()
    for args, kwargs in [((X,), {}), ((), {"x": X}), ((X, 1.0), {}), ((X,), {"scale": 1.0})]:
        net(*args, **kwargs)
    assert found.gpu.runs == 4
    with pytest.raises(TypeError), pytest.warns(UserWarning, match="arguments"):
        net(X, 1.0, 2.0)


def test_subclasses(deliver, expected):
    found = deliver()
    Net = found.user.Net

    class Deeper(Net):
        def __init__(self):
            super().__init__()
            self.extra = nn.Identity()

        def forward(self, x):
            return super().forward(x) + 1

    class Same(Net):
        def forward(self, x):
            return super().forward(x) + 1

    torch.testing.assert_close(Same().eval()(X), expected(found, X) + 1)
    assert found.gpu.runs == 1
    with pytest.warns(UserWarning, match="a submodule"):
        torch.testing.assert_close(Deeper().eval()(X), expected(found, X) + 1)
    assert found.gpu.runs == 1


def test_a_subclass_that_overrides_what_forward_uses(deliver):
    text = "class Net"
    found = deliver(
        """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def act(self, x):
        return (x**2 + 1.0) * 3.0

    def forward(self, x, scale: float = 1.0):
        return self.act(self.norm(x))
"""
    )
    assert text in inspect.getsource(found.user)

    class Other(found.user.Net):
        def act(self, x):
            return -x

    with pytest.warns(UserWarning, match="a method of a subclass"):
        Other().eval()(X)
    found.user.Net().eval()(X)
    assert found.gpu.runs == 1


def test_reload_defines_the_operator_once(deliver):
    found = deliver()
    operator = found.user.Net.forward.__kernel_lsp__.operator
    importlib.reload(found.kernel)
    reloaded = importlib.reload(found.user)
    assert reloaded.Net.forward.__kernel_lsp__.operator is operator
    reloaded.Net().eval()(X)
    assert found.gpu.runs == 1
