"""Tasks without a module, and the devices that run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from search_engine.contract.parse import parse
from search_engine.devices._base import Device, Execution, Program, Rejected
from search_engine.devices.cpu.device import CpuDevice
from search_engine.devices.cuda.compiler import Compiler
from search_engine.errors import SetupError
from search_engine.hardware import H200
from search_engine.task import Task, TensorSpec


def _spec(name: str, role, tensor: torch.Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(name, role, dtype, tuple(tensor.shape), tuple(tensor.stride()))


@pytest.fixture(scope="session")
def make_task() -> Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], Task]:
    def make(inputs: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor]) -> Task:
        tensors = [_spec(name, "input", tensor) for name, tensor in inputs.items()]
        tensors += [_spec(name, "output", tensor) for name, tensor in outputs.items()]
        return Task(
            path="net.py", qualname="Net", module_name="net", fingerprint="", construction="Net()",
            inputs_from="get_inputs", tensors=tuple(tensors), scalars={}, mode="eval",
            policy="match", target="h200", flops=1, min_bytes=1, longest_reduction=1,
            limit_seconds=1e-6, limit_reason="DRAM", graph=None,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuDevice]:
    device = CpuDevice(
        H200, timeout=20.0, cache=tmp_path_factory.mktemp("cpu-device"), compile_for_target=False
    )
    yield device
    device.close()


@pytest.fixture(scope="session")
def compile_one(make_task):
    """(device, source, inputs, outputs) -> (task, program or rejection)."""

    def compile_one(device: Device, source: str, inputs, outputs) -> tuple[Task, object]:
        task = make_task(inputs, outputs)
        [result] = device.compile([parse(source)], task)
        return task, result

    return compile_one


@pytest.fixture(scope="session")
def check_run(compile_one):
    """Run a source in the checking build on the cpu device; a rejection counts as findings."""

    def check_run(device: CpuDevice, source: str, inputs, outputs, checked=True) -> Execution:
        task, program = compile_one(device, source, inputs, outputs)
        if isinstance(program, Rejected):
            return Execution({}, program.findings)
        assert isinstance(program, Program)
        return device.execute(program, task, inputs, checked=checked)

    return check_run


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiler]:
    """NVRTC in its confined processes, with a cubin cache of its own."""
    try:
        made = Compiler(helpers=2, cache=tmp_path_factory.mktemp("cubins"))
        made.banner()
    except SetupError as missing:
        pytest.skip(str(missing))
    yield made
    made.close()
