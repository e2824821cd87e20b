"""How a delivered file compiles and launches, and a GPU that refuses."""

import contextlib
import ctypes
import importlib
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("strict")
X = torch.randn(4, 8)


@pytest.mark.parametrize("fails", ["load", "launch"])
def test_a_gpu_that_refuses(deliver, fails, caplog, expected):
    found = deliver()
    found.gpu.fails = fails
    net = found.user.Net().eval()
    with pytest.warns(UserWarning, match="could not be compiled or launched"):
        torch.testing.assert_close(net(X), expected(found, X))
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
    again = importlib.reload(found.runtime)
    importlib.reload(found.kernel)
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
    code = found.runtime._object_code(
        "90", found.state.folder, found.verified.kernels[0]
    )  # needs no GPU
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
        found.runtime, "_object_code", lambda *_: SimpleNamespace(get_kernel=kernel)
    )
    monkeypatch.setattr(found.runtime, "_raise_limits", lambda *_: None)
    load = found.runtime.Gpu().load
    file = found.verified.kernels[0]
    made = SimpleNamespace(
        driver=driver,
        entered=entered,  # devices made current
        found=found,
        load=lambda: load(0, found.state.folder, file, found.verified.cases[0]),
        current=0,
        stream=0,
    )
    return made


def test_scratch_that_nobody_wants_zeroed_is_not_filled(recorded):
    found = recorded.found
    case = found.verified.cases[0]
    scratch = {name: (dtype, shape, False) for name, (dtype, shape, _) in case.scratch.items()}
    case = case._replace(scratch=scratch)
    run = found.runtime.Gpu().load(0, found.state.folder, found.verified.kernels[0], case)
    run([*(torch.zeros(8) for _ in range(4)), torch.zeros(1024)])
    assert len(recorded.driver.launches) == 2
    assert recorded.driver.zeroed == []


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
    assert found.state.pools[0] == ((512, 0, 256), 1024, 512)
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
    monkeypatch.setattr(found.runtime, "_object_code", lambda *_: code)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    device = SimpleNamespace(arch="90", set_current=lambda: None)
    core = SimpleNamespace(Device=lambda index: device)
    monkeypatch.setattr(cuda, "core", core, raising=False)
    (case,) = found.verified.cases
    first = case.launches[0]._replace(arguments=("x",), shared=160_000, cluster=(16, 1, 1))
    second = first._replace(shared=1024, cluster=None)
    case = case._replace(launches=(first, second))
    found.runtime.Gpu().load(0, found.state.folder, found.verified.kernels[0], case)
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
