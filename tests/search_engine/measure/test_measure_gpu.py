"""Measuring on a real GPU: honest kernels get times, the others a finding."""

from __future__ import annotations

import pytest
import torch

from search_engine.capture.capture import capture
from search_engine.contract.parse import parse
from search_engine.devices._base import Program
from search_engine.task import CaptureRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

MODULE = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2 + 1

def get_inputs():
    return [torch.randn(4096, 4096)]
"""

HONEST = """\
// launch: f<<<16 * sm_count, 256>>>(x, out, x.numel() / 4)
extern "C" __global__ void f(const float4* x, float4* out, int n) {
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
        float4 v = x[i];
        out[i] = make_float4(fmaxf(v.x, 0.f) * 2 + 1, fmaxf(v.y, 0.f) * 2 + 1,
                             fmaxf(v.z, 0.f) * 2 + 1, fmaxf(v.w, 0.f) * 2 + 1);
    }
}
"""


@pytest.fixture(scope="module")
def device():
    from search_engine.devices.cuda.device import CudaDevice

    made = CudaDevice()
    yield made
    made.close()


@pytest.fixture(scope="module")
def captured(device, tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(MODULE)
    return capture(CaptureRequest(str(path), MODULE), device.facts, device=device.torch_device)


def compile_one(device, captured, source):
    (program,) = device.compile([parse(source)], captured.task)
    assert isinstance(program, Program), program
    return program


def test_baseline_has_eager_and_both_modes(device, captured):
    from search_engine.measure.measure import baseline

    found = baseline(captured, device)
    assert set(found.compiled) == {"default", "max-autotune-no-cudagraphs"}, found.notes
    # Three passes over memory against one.
    assert found.compiled["default"].median < found.eager.median
    assert found.eager.low <= found.eager.median <= found.eager.high


def test_an_honest_kernel_gets_times_between_the_limit_and_eager(device, captured):
    from search_engine.measure.measure import measure

    found = measure(captured, compile_one(device, captured, HONEST), device)
    assert captured.task.limit_seconds * 0.95 < found.kernel.median < found.eager.median
    assert found.over_eager > 1
    assert found.kernel.repeats >= 15


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (("i < n;", "i < n / 8;"), "timed-output"),
        (("* 2 + 1)", "* 2 + 1.5f)"), "timed-output"),
        (("out[i] = make", "out[i + 1] = make"), "red-zone"),
    ],
)
def test_launches_that_do_not_do_the_work_are_rejected(device, captured, change, check):
    from search_engine.measure.errors import MeasurementRejected
    from search_engine.measure.measure import measure

    program = compile_one(device, captured, HONEST.replace(*change))
    with pytest.raises(MeasurementRejected) as caught:
        measure(captured, program, device)
    assert check in [finding.check for finding in caught.value.findings]


def test_faster_than_the_hardware_allows_is_a_finding(device, captured):
    from search_engine.measure.errors import MeasurementRejected
    from search_engine.measure.measure import measure

    program = compile_one(device, captured, HONEST.replace("i < n;", "i < n / 8;"))
    with pytest.raises(MeasurementRejected) as caught:
        measure(captured, program, device)
    assert "faster-than-limit" in [finding.check for finding in caught.value.findings]


def test_a_delivered_module_is_timed_like_a_kernel_and_alone(device, captured):
    from search_engine.measure.module import measure_delivered

    class Slow(torch.nn.Module):
        def forward(self, x):
            for _ in range(20):
                x = x + 1
            return x

    class Same(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x) * 2 + 1

    slow = measure_delivered(captured, Slow(), device)
    assert slow.gpu.delivered.median > 3 * slow.gpu.eager.median
    assert not slow.gpu.faster
    assert slow.slower_than_eager_alone
    assert slow.slower_than_compile_alone
    same = measure_delivered(captured, Same(), device)
    assert not same.gpu.faster  # than itself compiled
    for one in (same.alone, slow.alone):  # launch costs come on top
        assert min(one.delivered.median, one.compiled.median) > same.gpu.compiled.median
