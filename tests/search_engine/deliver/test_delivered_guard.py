"""When a delivered file runs the original forward."""

import warnings
from collections import namedtuple

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("strict")
X = torch.randn(4, 8)


def test_device(deliver, falls_back):
    found = deliver()
    found.gpu.device_type = "cuda"
    falls_back(found, found.user.Net().eval(), X, reason="device")


def test_gpu_model(deliver, falls_back):
    found = deliver()
    found.gpu.model = "NVIDIA L40S"
    falls_back(found, found.user.Net().eval(), X, match="verified on another GPU, NVIDIA H200")


def test_dtype(deliver, falls_back):
    found = deliver()
    falls_back(found, found.user.Net().eval().double(), X.double(), match="dtype")


def test_smaller_batch_is_silent(deliver, falls_back):
    found = deliver()
    falls_back(found, found.user.Net().eval(), X[:3], reason="smaller batch")


@pytest.mark.parametrize("x", [torch.randn(5, 8), torch.randn(4, 1, 8), torch.randn(1, 4, 8)])
def test_shape(deliver, x, falls_back):
    found = deliver()
    falls_back(found, found.user.Net().eval(), x, match="shape")


def test_layout(deliver, falls_back):
    found = deliver()
    falls_back(found, found.user.Net().eval(), torch.randn(8, 4).t(), match="strides")


def test_strides_of_single_elements_say_nothing(deliver):
    Call = namedtuple("Call", ["args", "kwargs"], defaults=[{}])

    found = deliver(call=Call((torch.randn(1, 8),)))
    found.user.Net().eval()(torch.randn(8, 2).t()[:1].clone().as_strided((1, 8), (99, 1)))
    assert found.gpu.runs == 1


def test_scalar_argument(deliver, falls_back):
    found = deliver()
    net = found.user.Net().eval()
    falls_back(found, net, X, match="arguments", scale=2.0)
    falls_back(found, net, X, reason="arguments", scale=torch.tensor(1.0))


def test_gradients(deliver, falls_back):
    found = deliver()
    net = found.user.Net().eval()
    with torch.enable_grad():
        falls_back(found, net, X, match="inference_mode")
        net.requires_grad_(False)
        net(X)
        assert found.gpu.runs == 1
        falls_back(found, net, X.clone().requires_grad_(), reason="gradients")
    with torch.inference_mode():
        found.user.Net().eval()(X)
    assert found.gpu.runs == 2


def test_gradients_in_training_are_silent(deliver, falls_back):
    found = deliver()
    with torch.enable_grad():
        falls_back(found, found.user.Net().train(), X, reason="training")


def test_mode_only_where_it_matters(deliver, falls_back):
    found = deliver()
    found.user.Net().train()(X)
    assert found.gpu.runs == 1
    found = deliver(mode_matters=True)
    falls_back(found, found.user.Net().train(), X, match="eval mode")
    part = found.user.Net().eval()
    part.norm.train()
    falls_back(found, part, X, reason="mode")


def test_autocast(deliver, falls_back):
    found = deliver()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        falls_back(found, found.user.Net().eval(), X, match="autocast")


def test_functorch(deliver, expected):
    found = deliver()
    net = found.user.Net().eval()
    wanted = torch.stack([expected(found, X), expected(found, X)])
    torch.testing.assert_close(torch.func.vmap(net)(torch.stack([X, X])), wanted)
    with torch.enable_grad():
        gradient = torch.func.grad(lambda x: net(x).sum())(X)
    assert gradient.shape == X.shape
    state = dict(net.state_dict())
    torch.func.functional_call(net, state, (X,))
    assert found.gpu.runs == 1


def test_export_and_tracing(deliver, expected):
    found = deliver()
    net = found.user.Net().eval()
    for strict in (False, True):
        program = torch.export.export(net, (X,), strict=strict)
        assert "aten.layer_norm.default" in str(program.graph)
        assert "kernel_lsp" not in str(program.graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit says that it is old
        traced = torch.jit.trace(net, X, check_trace=False)  # the check is an ordinary call
        scripted = torch.jit.script(JIT(found))
    assert "layer_norm" in str(traced.inlined_graph)
    torch.testing.assert_close(scripted(X), expected(found, X))
    assert found.gpu.runs == 0


def JIT(found):
    """``super(Net, self)`` is not for the scripting compiler; what is around it is."""
    return torch.nn.Sequential(found.user.Net().eval().norm, Squares())


class Squares(nn.Module):
    def forward(self, x):
        return (x**2 + 1.0) * 3.0


def test_scripting_reads_the_original(deliver, expected):
    found = deliver(
        """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x, scale: float = 1.0):
        return F.relu(self.norm(x)) * scale
"""
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(found.user.Net().eval())
    torch.testing.assert_close(scripted(X), expected(found, X))
    assert "relu" in scripted.code
    assert found.gpu.runs == 0


def test_meta_fake_and_dispatch_modes(deliver):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    found = deliver()
    net = found.user.Net().eval()
    assert net.to("meta")(X.to("meta")).device.type == "meta"
    net = found.user.Net().eval()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert type(net(mode.from_tensor(X))).__name__ == "FakeTensor"
        net(X)
    with FlopCounterMode(display=False):
        net(X)
    assert found.gpu.runs == 0


def test_tensor_subclasses(deliver):
    class Mine(torch.Tensor):
        pass

    found = deliver()
    net = found.user.Net().eval()
    assert type(net(X.as_subclass(Mine))) is Mine
    jagged = torch.nested.nested_tensor([X[:2], X[2:]], layout=torch.jagged)
    assert net.norm(jagged).is_nested
    net(jagged)
    assert found.gpu.runs == 0
    net(nn.Parameter(X, requires_grad=False))
    assert found.gpu.runs == 1


def test_stream_capture(deliver):
    found = deliver()
    net = found.user.Net().eval()
    found.gpu.in_capture = True
    with pytest.warns(UserWarning, match="while a CUDA graph was being captured"):
        net(X)
    assert found.gpu.runs == 0
    found.gpu.in_capture = False
    net(X)
    found.gpu.in_capture = True
    net(X)
    assert found.gpu.runs == 2


def test_changed_attributes(deliver, falls_back):
    found = deliver()
    net = found.user.Net().eval()
    net.unrelated = 1  # forward does not read it
    net(X)
    assert found.gpu.runs == 1
    net.power = 3
    falls_back(found, net, X, match="attribute")
    falls_back(found, found.user.Net(eps=1e-3).eval(), X, reason="attributes")


ACTIVATED = """\
import torch
import torch.nn.functional as F
from torch import nn


def mine(x):
    return x + 0.0


class Net(nn.Module):
    def __init__(self, act={act}):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.act = act

    def forward(self, x, scale: float = 1.0):
        return (self.act(self.norm(x)) ** 2 + 1.0) * 3.0
"""


@pytest.mark.parametrize("act", ["torch.positive", "mine", "F.dropout"])
def test_functions_as_attributes(deliver, act, falls_back):
    found = deliver(ACTIVATED.replace("{act}", act))
    net = found.user.Net().eval()
    net(X)
    assert found.gpu.runs == 1
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(X)
    assert found.gpu.runs == 2
    falls_back(found, found.user.Net(torch.relu).eval(), X, match="source has changed")
    falls_back(found, found.user.Net(lambda x: x).eval(), X, reason="source")


def test_a_function_attribute_that_was_edited(deliver, falls_back):
    found = deliver(
        ACTIVATED.replace("{act}", "mine"), change=lambda text: text.replace("x + 0.0", "x + 1.0")
    )
    falls_back(found, found.user.Net().eval(), X, match="source has changed")


def test_absent_and_missing_weights(deliver, falls_back):
    found = deliver()
    net = found.user.Net().eval()
    net.norm.bias = None
    falls_back(found, net, X, match="parameter or buffer")
    found = deliver(
        """\
from torch import nn


class Net(nn.Module):
    def __init__(self, bias=False):
        super().__init__()
        self.norm = nn.LayerNorm(8, bias=bias)

    def forward(self, x, scale: float = 1.0):
        return self.norm(x)
""",
        kernel="// launch: f<<<1, 32>>>(x, norm.weight, out)\n"
        'extern "C" __global__ void f(const float* x, const float* w, float* out) {}\n',
    )
    falls_back(found, found.user.Net(bias=True).eval(), X, match="parameter or buffer")


def test_swapped_and_hooked_submodules(deliver, falls_back):
    class Norm(nn.LayerNorm):
        pass

    found = deliver()
    net = found.user.Net().eval()
    net.norm.register_forward_hook(lambda module, args, out: out * 2)
    falls_back(found, net, X, match="hooks")
    net = found.user.Net().eval()
    net.norm.register_forward_pre_hook(lambda module, args: None)
    falls_back(found, net, X, reason="hooks")
    net = found.user.Net().eval()
    net.norm.forward = lambda x: x
    falls_back(found, net, X, reason="hooks")
    net = found.user.Net().eval()
    net.norm = Norm(8)
    falls_back(found, net, X, match="a submodule")
    net = found.user.Net().eval()
    net.norm.extra = nn.Identity()
    falls_back(found, net, X, reason="modules")
    net = nn.utils.parametrizations.weight_norm(found.user.Net().eval().norm)
    whole = found.user.Net().eval()
    whole.norm = net
    falls_back(found, whole, X, reason="modules")


def test_global_hooks(deliver, falls_back):
    found = deliver()
    net = found.user.Net().eval()
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, args: None)
    try:
        falls_back(found, net, X, match="hooks")
    finally:
        handle.remove()
    net(X)
    assert found.gpu.runs == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("** self.power", "* self.power"),
        ("x + 1.0", "x + 2.0"),
        ("GAIN = 3.0", "GAIN = 4.0"),
    ],
)
def test_edited_source(deliver, old, new, falls_back):
    found = deliver(change=lambda text: text.replace(old, new))
    falls_back(found, found.user.Net().eval(), X, match="source has changed")


def test_source_edited_elsewhere(deliver):
    found = deliver(
        change=lambda text: (
            text.replace("self.unrelated = 0", "self.unrelated = 1")
            .replace("def shifted(x):", "def shifted(x):\n    '''Documented.'''\n    # why")
            .replace("GAIN = 3.0", "GAIN = 3.0\nOTHER = 1\n\n\ndef unused():\n    return OTHER\n")
        )
    )
    found.user.Net().eval()(X)
    assert found.gpu.runs == 1


def test_edited_or_missing_kernel_file(deliver, falls_back):
    found = deliver()
    path = next(found.folder.glob("*_cuda/Net.cu"))
    text = path.read_text("utf-8")
    path.write_text(text.replace("\n", "\r\n").replace("    ", "\t"), "utf-8")  # formatting only
    found.user.Net().eval()(X)
    assert found.gpu.runs == 1
    for edited in (text.replace("{}", "{ return; }", 1), None):
        found = deliver()
        path = next(
            p
            for p in found.folder.glob("*_cuda/Net.cu")
            if p.parent.name.startswith(found.user.__name__)
        )
        path.write_text(edited, "utf-8") if edited else path.unlink()
        falls_back(found, found.user.Net().eval(), X, match="missing or was changed")
