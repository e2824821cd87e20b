"""Modules captured for the playbook, and what runs or compiles its kernels."""

from __future__ import annotations

import importlib.util
import itertools
import math
import textwrap
from pathlib import Path

import pytest
import torch

from search_engine.capture.capture import capture
from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.devices._base import Rejected
from search_engine.errors import SetupError
from search_engine.hardware import H200
from search_engine.playbook import cost
from search_engine.playbook.plan import plans
from search_engine.task import CaptureRequest

HEADER = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"
_number = itertools.count()


@pytest.fixture
def take(tmp_path):
    """Captures ``forward``'s body (and ``__init__``'s) with the inputs of the comment."""

    def captured(inputs: str, forward: str, init: str = "pass", arguments: str = "x"):
        text = (
            f"# kernel-lsp: Net(), {inputs}\nclass Net(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n"
            + textwrap.indent(textwrap.dedent(init), " " * 8)
            + f"\n    def forward(self, {arguments}):\n"
            + textwrap.indent(textwrap.dedent(forward), " " * 8)
            + "\n"
        )
        path = tmp_path / f"playbook_net_{next(_number)}.py"
        return capture(CaptureRequest(path=str(path), text=HEADER + text), H200)

    return captured


@pytest.fixture(scope="session")
def cpu(tmp_path_factory):
    """The cpu device, with a cache of this session's own."""
    from search_engine.devices.cpu.device import CpuDevice

    try:
        device = CpuDevice(H200, timeout=120, cache=tmp_path_factory.mktemp("cpu-device"))
    except SetupError as error:
        pytest.skip(str(error))
    yield device
    device.close()


def error_of(out: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative error to the output's norm; equality for outputs that are no numbers."""
    if not out.is_floating_point():
        return 0.0 if torch.equal(out, exact.to(out.dtype)) else float("inf")
    norm = torch.linalg.vector_norm(exact.double()).clamp_min(1e-30)
    return float(torch.linalg.vector_norm(out.double() - exact.double()) / norm)


@pytest.fixture
def agree(cpu):
    """Runs texts on the cpu device's checking build and holds them against fp64."""

    def run(captured, sources: list[str], draws=(("default", 1), ("mean1000", 2))):
        kernels = [parse(source) for source in sources]
        for kernel in kernels:
            assert check(kernel, captured.task, H200) == []
        programs = cpu.compile(kernels, captured.task)
        for program in programs:
            assert not isinstance(program, Rejected), program.findings
        for distribution, seed in draws:
            captured.randomise(seed, distribution)
            call = captured.draw(seed, distribution)
            tensors = captured.tensors(call)
            eager = {name: value.clone() for name, value in captured.run(call).items()}
            exact = _in_double(captured, call)
            for program in programs:
                execution = cpu.execute(program, captured.task, tensors, checked=True)
                assert execution.findings == ()
                for name, out in execution.outputs.items():
                    own = error_of(eager[name], exact[name])
                    reach = 4e-6 if out.dtype == torch.float32 else _EPSILON.get(out.dtype, 0.0)
                    assert error_of(out, exact[name]) <= max(3 * own, reach), (name, distribution)
        captured.restore()

    return run


@pytest.fixture(scope="session")
def interpreter():
    """The module that executes programs exactly (``interpret.py``)."""
    path = Path(__file__).with_name("interpret.py")
    spec = importlib.util.spec_from_file_location("playbook_interpret", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def means(interpreter):
    """Holds what the analyser makes of a task, executed exactly, against torch in fp64.

    ``special`` puts NaN, infinities, zeros and ties among the floating inputs.
    """

    def compare(captured, draws=(("default", 1), ("mean1000", 2)), special=False, reach=1e-9):
        found = plans(captured.task, H200, lambda program: cost.least_seconds(program, H200))
        for distribution, seed in draws:
            captured.randomise(seed, distribution)
            call = captured.draw(seed, distribution)
            tensors = captured.tensors(call)
            if special:
                for tensor in tensors.values():
                    _sprinkle(tensor, seed)
            exact = _in_double(captured, call)
            out = interpreter.interpret_plan(found[0], captured.task, tensors)
            for name, expected in exact.items():
                error = interpreter.exact_error(out[name], expected)
                assert error <= _reach(out[name].dtype, reach), (name, distribution, error)
        captured.restore()
        return found[0]

    return compare


def _reach(dtype: torch.dtype, exact: float) -> float:
    """What rounding the stored result may cost."""
    own = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
    return max(own.get(dtype, 0.0), exact)


def _sprinkle(tensor: torch.Tensor, seed: int) -> None:
    if not tensor.is_floating_point() or tensor.numel() < 8:
        return
    places = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(seed))
    values = [math.nan, math.inf, -math.inf, 0.0, 1.0, 1.0, 1.0, 1e-40]
    for place, value in zip(places.tolist(), values, strict=False):
        tensor.view(-1)[place] = value


_EPSILON = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-14}


@pytest.fixture
def in_double():
    """What the module itself gives in float64, by output name."""
    return _in_double


def _in_double(captured, call):
    module = captured.copied_module().double()

    def widen(value):
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.double() if is_float else value

    args = [widen(value) for value in call.args]
    kwargs = {name: widen(value) for name, value in call.kwargs.items()}
    with torch.no_grad():
        result = module(*args, **kwargs)
    names = [tensor.name for tensor in captured.task.outputs]
    values = result if isinstance(result, tuple) else (result,)
    return dict(zip(names, values, strict=True))


@pytest.fixture(scope="session")
def nvrtc():
    """Compiles a text for sm_90a without a GPU."""
    core = pytest.importorskip("cuda.core")
    pathfinder = pytest.importorskip("cuda.pathfinder")
    include = pathfinder.find_nvidia_header_directory("cudart")
    if include is None:
        pytest.skip("no CUDA headers are installed")
    options = core.ProgramOptions(
        arch="sm_90a", std="c++17", include_path=[include, f"{include}/cccl"]
    )

    def compiled(source: str) -> bytes:
        return core.Program(source, "c++", options).compile("cubin").code

    return compiled
