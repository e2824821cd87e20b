"""What a delivered file does, with a GPU that is not there: see conftest's FakeGpu."""

import contextlib
import copy
import ctypes
import importlib
import inspect
import pickle
import sys
import threading
import warnings
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

X = torch.randn(4, 8)


@pytest.fixture(autouse=True)
def _no_grad_and_no_warnings():
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def expected(found, x=X, **kwargs):
    return found.user.Net.forward.__wrapped__(found.user.Net().eval(), x, **kwargs)


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
    (case,) = found.kernel.CASES
    first, second = case.launches
    assert first.arguments == ("x", "partial", ("int", 8))
    assert (first.grid, first.block, first.shared) == ((4, 1, 1), (32, 1, 1), 0)
    assert second.arguments[-1] == ("float", 1.0)
    assert second.shared == 128


def test_a_base_that_is_not_aligned_is_copied(deliver):
    found = deliver()
    net = found.user.Net().eval()
    x = torch.randn(33)[1:].view(4, 8)
    assert x.data_ptr() % 16
    torch.testing.assert_close(net(x), expected(found, x))
    assert found.gpu.runs == 1
    assert found.gpu.buffers["x"].data_ptr() % 16 == 0


# --- the class stays what it is -------------------------------------------------------


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


def test_pickle_deepcopy_and_hooks(deliver):
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


def test_subclasses(deliver):
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

    torch.testing.assert_close(Same().eval()(X), expected(found) + 1)
    assert found.gpu.runs == 1
    with pytest.warns(UserWarning, match="a submodule"):
        torch.testing.assert_close(Deeper().eval()(X), expected(found) + 1)
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
    operator = found.kernel._operator
    again = importlib.reload(found.kernel)
    assert again._operator is operator
    reloaded = importlib.reload(found.user)
    again.gpu = found.gpu
    reloaded.Net().eval()(X)
    assert found.gpu.runs == 1


# --- when the original runs -----------------------------------------------------------


def falls_back(found, net, *args, match=None, reason=None, **kwargs):
    """The call gives the original's result without a launch; it warns once, or never."""
    runs = found.gpu.runs
    wanted = net.forward.__wrapped__(net, *args, **kwargs)
    assert (reason or match) in found.kernel.explain(net, *args, **kwargs)
    if match is None:
        got = net(*args, **kwargs)
    else:
        with pytest.warns(UserWarning, match=match):
            got = net(*args, **kwargs)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(net(*args, **kwargs), wanted)  # a second time without a warning
    assert found.gpu.runs == runs


def test_device(deliver):
    found = deliver()
    found.gpu.device_type = "cuda"
    falls_back(found, found.user.Net().eval(), X, reason="device")


def test_gpu_model(deliver):
    found = deliver()
    found.gpu.model = "NVIDIA L40S"
    falls_back(found, found.user.Net().eval(), X, match="verified on another GPU, NVIDIA H200")


def test_dtype(deliver):
    found = deliver()
    falls_back(found, found.user.Net().eval().double(), X.double(), match="dtype")


def test_smaller_batch_is_silent(deliver):
    found = deliver()
    falls_back(found, found.user.Net().eval(), X[:3], reason="smaller batch")


@pytest.mark.parametrize("x", [torch.randn(5, 8), torch.randn(4, 1, 8), torch.randn(1, 4, 8)])
def test_shape(deliver, x):
    found = deliver()
    falls_back(found, found.user.Net().eval(), x, match="shape")


def test_layout(deliver):
    found = deliver()
    falls_back(found, found.user.Net().eval(), torch.randn(8, 4).t(), match="strides")


def test_strides_of_single_elements_say_nothing(deliver):
    Call = namedtuple("Call", ["args", "kwargs"], defaults=[{}])

    found = deliver(call=Call((torch.randn(1, 8),)))
    found.user.Net().eval()(torch.randn(8, 2).t()[:1].clone().as_strided((1, 8), (99, 1)))
    assert found.gpu.runs == 1


def test_scalar_argument(deliver):
    found = deliver()
    net = found.user.Net().eval()
    falls_back(found, net, X, match="arguments", scale=2.0)
    falls_back(found, net, X, reason="arguments", scale=torch.tensor(1.0))


def test_gradients(deliver):
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


def test_gradients_in_training_are_silent(deliver):
    found = deliver()
    with torch.enable_grad():
        falls_back(found, found.user.Net().train(), X, reason="training")


def test_mode_only_where_it_matters(deliver):
    found = deliver()
    found.user.Net().train()(X)
    assert found.gpu.runs == 1
    found = deliver(mode_matters=True)
    falls_back(found, found.user.Net().train(), X, match="eval mode")
    part = found.user.Net().eval()
    part.norm.train()
    falls_back(found, part, X, reason="mode")


def test_autocast(deliver):
    found = deliver()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        falls_back(found, found.user.Net().eval(), X, match="autocast")


def test_functorch(deliver):
    found = deliver()
    net = found.user.Net().eval()
    wanted = torch.stack([expected(found), expected(found)])
    torch.testing.assert_close(torch.func.vmap(net)(torch.stack([X, X])), wanted)
    with torch.enable_grad():
        gradient = torch.func.grad(lambda x: net(x).sum())(X)
    assert gradient.shape == X.shape
    state = dict(net.state_dict())
    torch.func.functional_call(net, state, (X,))
    assert found.gpu.runs == 1


def test_export_and_tracing(deliver):
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
    torch.testing.assert_close(scripted(X), expected(found))
    assert found.gpu.runs == 0


def JIT(found):
    """``super(Net, self)`` is not for the scripting compiler; what is around it is."""
    return torch.nn.Sequential(found.user.Net().eval().norm, Squares())


class Squares(nn.Module):
    def forward(self, x):
        return (x**2 + 1.0) * 3.0


def test_scripting_reads_the_original(deliver):
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
    torch.testing.assert_close(scripted(X), expected(found))
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


def test_changed_attributes(deliver):
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
def test_functions_as_attributes(deliver, act):
    found = deliver(ACTIVATED.replace("{act}", act))
    net = found.user.Net().eval()
    net(X)
    assert found.gpu.runs == 1
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(X)
    assert found.gpu.runs == 2
    falls_back(found, found.user.Net(torch.relu).eval(), X, match="source has changed")
    falls_back(found, found.user.Net(lambda x: x).eval(), X, reason="source")


def test_a_function_attribute_that_was_edited(deliver):
    found = deliver(
        ACTIVATED.replace("{act}", "mine"), change=lambda text: text.replace("x + 0.0", "x + 1.0")
    )
    falls_back(found, found.user.Net().eval(), X, match="source has changed")


def test_absent_and_missing_weights(deliver):
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


def test_swapped_and_hooked_submodules(deliver):
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


def test_global_hooks(deliver):
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
def test_edited_source(deliver, old, new):
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


def test_edited_or_missing_kernel_file(deliver):
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


@pytest.mark.parametrize("fails", ["load", "launch"])
def test_a_gpu_that_refuses(deliver, fails, caplog):
    found = deliver()
    found.gpu.fails = fails
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match="could not be compiled or launched"):
        torch.testing.assert_close(net(X), expected(found))
    found.gpu.fails = ""
    net(X)  # not asked again
    assert found.gpu.runs == 0
    assert "NVRTC" in caplog.text or "OUT_OF_RESOURCES" in caplog.text


def test_importing_needs_neither_cuda_core_nor_a_gpu(deliver, monkeypatch):
    found = deliver()
    for name in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    again = importlib.reload(found.kernel)
    user = importlib.reload(found.user)
    again.gpu = type(
        "Real",
        (again.Gpu,),
        {"device_type": "cpu", "name": lambda *_: "NVIDIA H200", "capturing": lambda _: False},
    )()
    with pytest.warns(UserWarning, match="could not be compiled or launched"):
        user.Net().eval()(X)


@pytest.mark.parametrize("header", ["", "#include <cooperative_groups.h>\n"])
def test_nvrtc_with_the_headers_that_wheels_bring(deliver, kit, header):
    pytest.importorskip("cuda.bindings.nvrtc")
    found = deliver(kernel=kit.KERNEL.replace("extern", f"{header}extern", 1))
    code = found.kernel._object_code("90")  # needs no GPU
    assert b"normalize" in bytes(code.code)


SIZES = {"moments": (8, 8, 8, 4), "normalize": (8, 8, 8, 8, 8, 4)}
TWO_SCRATCH = """\
// scratch: spare float64[x.size(0), 9]
// scratch: partial float32[x.size(0), 2] zeroed
// scratch: count int32[1] zeroed
// launch: moments<<<x.size(0), 32>>>(x, partial, count, 8) cooperative cluster=(2, 1, 1)
// launch: normalize<<<x.size(0), 32, 128>>>(x, norm.weight, norm.bias, partial, out, scale)
extern "C" __global__ void moments(const float* x, float2* partial, int* count, int n) {}
extern "C" __global__ void normalize(const float* x, const float* w, const float* b,
                                     const float2* partial, float* out, float scale) {}
"""


class RecordedDriver:
    """cuda.bindings.driver as far as launches use it; reads the arguments as the GPU would."""

    def __init__(self, driver):
        self.launches = []
        self.zeroed = []
        self.status = driver.CUresult.CUDA_SUCCESS
        for name in ("CUlaunchConfig", "CUlaunchAttribute", "CUlaunchAttributeID", "CUkernel"):
            setattr(self, name, getattr(driver, name))
        self.CU_STREAM_LEGACY = driver.CU_STREAM_LEGACY

    def cuKernelGetFunction(self, kernel):
        return self.status, {1: "moments", 2: "normalize"}[int(kernel)]

    def cuMemsetD8Async(self, address, value, count, stream):
        self.zeroed.append((address, value, count, stream))
        return (self.status,)

    def cuLaunchKernel(self, function, *rest):
        *sizes, stream, parameters, _ = rest
        self.launches.append((function, sizes, stream, arguments_at(parameters, SIZES[function])))
        return (self.status,)

    def cuLaunchKernelEx(self, config, function, parameters, _):
        sizes = [
            config.gridDimX, config.gridDimY, config.gridDimZ,
            config.blockDimX, config.blockDimY, config.blockDimZ, config.sharedMemBytes,
        ]  # fmt: skip
        self.attributes = {item.id.name.split("ATTRIBUTE_")[1]: item.value for item in config.attrs}
        found = arguments_at(parameters, SIZES[function])
        self.launches.append((function, sizes, int(config.hStream), found))
        return (self.status,)


def arguments_at(parameters, sizes):
    pointers = (ctypes.c_void_p * len(sizes)).from_address(parameters)
    kinds = {8: ctypes.c_uint64, 4: ctypes.c_uint32}
    return [kinds[s].from_address(p).value for p, s in zip(pointers, sizes, strict=True)]


@pytest.fixture
def recorded(deliver, monkeypatch):
    """A delivered file with two launches, the real Gpu, and a driver that records."""
    real = pytest.importorskip("cuda.bindings.driver")
    import cuda.bindings

    driver = RecordedDriver(real)
    monkeypatch.setattr(cuda.bindings, "driver", driver)
    core = SimpleNamespace(
        Device=lambda index: SimpleNamespace(arch="90", set_current=lambda: entered.append("set"))
    )
    monkeypatch.setattr(cuda, "core", core, raising=False)
    found = deliver(kernel=TWO_SCRATCH)
    entered = []

    def device(index):
        entered.append(index)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: made.current)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: made.stream, raising=False)

    def kernel(name):
        infos = [SimpleNamespace(size=size) for size in SIZES[name]]
        return SimpleNamespace(handle={"moments": 1, "normalize": 2}[name], arguments_info=infos)

    monkeypatch.setattr(
        found.kernel, "_object_code", lambda arch: SimpleNamespace(get_kernel=kernel)
    )
    monkeypatch.setattr(found.kernel, "_raise_limits", lambda *_: None)
    load = found.kernel.Gpu().load
    made = SimpleNamespace(
        driver=driver,
        entered=entered,  # devices made current
        found=found,
        load=lambda: load(0, found.kernel.CASES[0]),
        current=0,
        stream=0,
    )
    return made


def test_launches_through_the_driver(recorded):
    driver, found = recorded.driver, recorded.found
    run = recorded.load()
    tensors = [torch.zeros(8) for _ in range(4)]  # x, weight, bias, out
    scratch = torch.zeros(1024)
    run([*tensors, scratch])
    x, weight, bias, out = (tensor.data_ptr() for tensor in tensors)
    first, second = driver.launches
    partial, count = scratch.data_ptr(), scratch.data_ptr() + 256
    assert first == ("moments", [4, 1, 1, 32, 1, 1, 0], 1, [x, partial, count, 8])
    one = int(np.float32(1.0).view(np.uint32))
    assert second[:3] == ("normalize", [4, 1, 1, 32, 1, 1, 128], 1)
    assert second[3] == [x, weight, bias, partial, out, one]
    assert driver.zeroed == [(partial, 0, 512, 1)]  # not the spare behind it
    assert found.kernel.POOLS[0] == ((512, 0, 256), 1024, 512)
    assert driver.attributes["COOPERATIVE"].cooperative == 1
    cluster = driver.attributes["CLUSTER_DIMENSION"].clusterDim
    assert (cluster.x, cluster.y, cluster.z) == (2, 1, 1)
    recorded.stream = 7
    other = torch.zeros(8)
    run([other, *tensors[1:], scratch])
    assert [launch[2] for launch in driver.launches[2:]] == [7, 7]
    assert [launch[3][0] for launch in driver.launches[2:]] == [other.data_ptr()] * 2


def test_a_functions_limits_suffice_for_all_of_its_launches(deliver, monkeypatch):
    """The driver keeps one limit a function: the last launch's would refuse the larger ones."""
    real = pytest.importorskip("cuda.bindings.driver")
    import cuda.bindings

    found = deliver()
    limits = {}

    def set_attribute(name, value, kernel, device):
        limits[name.name.removeprefix("CU_FUNC_ATTRIBUTE_")] = value
        return (real.CUresult.CUDA_SUCCESS,)

    driver = SimpleNamespace(
        CUfunction_attribute=real.CUfunction_attribute, CUresult=real.CUresult,
        CUkernel=real.CUkernel, CUdevice=real.CUdevice, cuKernelSetAttribute=set_attribute,
    )  # fmt: skip
    monkeypatch.setattr(cuda.bindings, "driver", driver)
    infos = [SimpleNamespace(size=8)]
    kernel = SimpleNamespace(handle=1, arguments_info=infos)
    code = SimpleNamespace(get_kernel=lambda name: kernel)
    monkeypatch.setattr(found.kernel, "_object_code", lambda arch: code)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    device = SimpleNamespace(arch="90", set_current=lambda: None)
    core = SimpleNamespace(Device=lambda index: device)
    monkeypatch.setattr(cuda, "core", core, raising=False)
    (case,) = found.kernel.CASES
    first = case.launches[0]._replace(arguments=("x",), shared=160_000, cluster=(16, 1, 1))
    second = first._replace(shared=1024, cluster=None)
    case = case._replace(launches=(first, second))
    found.kernel.Gpu().load(0, case)
    assert limits == {
        "MAX_DYNAMIC_SHARED_SIZE_BYTES": 160_000,
        "NON_PORTABLE_CLUSTER_SIZE_ALLOWED": 1,
    }


def test_the_device_is_set_only_where_it_is_not_the_current_one(recorded):
    run = recorded.load()
    tensors = [torch.zeros(256) for _ in range(5)]
    recorded.entered.clear()
    run(tensors)  # a thread's first launch: it may have no context yet
    assert recorded.entered == [0, "set"]
    run(tensors)
    assert recorded.entered == [0, "set"]
    recorded.current = 1
    run(tensors)
    assert recorded.entered == [0, "set", 0]
    thread = threading.Thread(target=run, args=(tensors,))
    thread.start()
    thread.join()
    assert recorded.entered == [0, "set", 0, 0, "set"]
    assert len(recorded.driver.launches) == 8


def test_threads_do_not_share_argument_memory(recorded):
    run = recorded.load()
    launch = recorded.driver.cuLaunchKernel
    inside, go_on = threading.Event(), threading.Event()

    def slow(function, *rest):
        if threading.current_thread() is thread:
            inside.set()
            assert go_on.wait(10)
        return launch(function, *rest)

    recorded.driver.cuLaunchKernel = slow
    mine, other = ([torch.zeros(256) for _ in range(5)] for _ in range(2))
    thread = threading.Thread(target=run, args=(other,))
    thread.start()
    assert inside.wait(10)
    run(mine)
    go_on.set()
    thread.join()
    last = [entry for entry in recorded.driver.launches if entry[0] == "normalize"]
    assert [entry[3][0] for entry in last] == [mine[0].data_ptr(), other[0].data_ptr()]


def test_what_the_driver_answers_is_heard(recorded):
    from cuda.bindings.driver import CUresult

    run = recorded.load()
    tensors = [torch.zeros(256) for _ in range(5)]
    run(tensors)
    recorded.driver.status = CUresult.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
    with pytest.raises(RuntimeError, match="CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"):
        run(tensors)


def test_a_scalar_of_another_width_is_refused(recorded, monkeypatch):
    monkeypatch.setitem(SIZES, "moments", (8, 8, 8, 8))
    with pytest.raises(RuntimeError, match="8 cannot be passed as int of 8 bytes"):
        recorded.load()


# --- torch.compile --------------------------------------------------------------------


def test_compile_takes_it_whole(deliver):
    found = deliver()
    net = found.user.Net().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), expected(found))
    assert found.gpu.runs == 1
    torch.testing.assert_close(compiled(X.clone()), expected(found))
    assert found.gpu.runs == 2


def test_compile_uses_the_operator(deliver):
    found = deliver()
    graphs = []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph.forward

    net = found.user.Net().eval()
    compiled = torch.compile(lambda x: net(x) + 1, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(X), expected(found) + 1)
    assert "kernel_lsp_" in graphs[0]
    assert "layer_norm" not in graphs[0]


def test_the_operator_is_sound(deliver):
    found = deliver()
    net = found.user.Net().eval()
    operands = [X, net.norm.weight.detach(), net.norm.bias.detach()]
    torch.library.opcheck(found.kernel._operator, (operands, 0))


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


# --- a kernel that was verified without a GPU -----------------------------------------


def test_first_use_checks_times_and_keeps_the_faster(deliver):
    found = deliver(measured=False)
    found.gpu.model = "NVIDIA L40S"  # any will do: it is tried
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match=r"first time on a GPU: .* The kernel is kept"):
        torch.testing.assert_close(net(X), expected(found))
    runs = found.gpu.runs
    net(X)
    assert found.gpu.runs == runs + 1
    assert found.kernel.explain(net, X) == "kernel"
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(X)
    assert found.gpu.runs == runs + 2


def test_first_use_keeps_the_original_where_that_is_faster(deliver):
    found = deliver(measured=False)
    found.gpu.times = [2.0, 1.0]
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match="The original is kept"):
        torch.testing.assert_close(net(X), expected(found))
    runs = found.gpu.runs
    torch.testing.assert_close(net(X), expected(found))
    assert found.gpu.runs == runs


def test_first_use_refuses_a_kernel_that_is_off(deliver):
    found = deliver(measured=False)
    found.gpu.factor = 1.0 + 1e-5
    net = found.user.Net().eval()
    with pytest.warns(
        UserWarning, match="has an error of (1.0e-05|9.9e-06) on this GPU, more than"
    ):
        torch.testing.assert_close(net(X), expected(found))
    assert found.gpu.runs == 1
    net(X)
    assert found.gpu.runs == 1


def test_compile_before_the_first_trial_takes_the_original(deliver):
    found = deliver(measured=False)
    net = found.user.Net().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), expected(found))
    assert found.gpu.runs == 0
