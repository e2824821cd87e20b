"""The real bench: a worker that dies costs what it was at, nothing else."""

import os
import signal

import pytest

from search_engine.errors import CaptureError, WorkerDied
from search_engine.search.worker_bench import WorkerBench
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest

TEXT = """\
import os, torch


# kernel-lsp: Net(), x=float32[4, 64]
class Net(torch.nn.Module):
    def forward(self, x):
        return x + 1.0
"""
KERNEL = """\
// launch: add<<<x.size(0), 64>>>(x, out)
extern "C" __global__ void add(const float* x, float* out) {
  out[blockIdx.x * 64 + threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x] + 1.0f;
}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One for all tests, so that the cpu device's runner is built once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def make_bench(tmp_path, data, monkeypatch):
    monkeypatch.setenv("KERNEL_LSP_DATA", str(data))
    made = []

    def make(text=TEXT):
        request = CaptureRequest(path=str(tmp_path / "net.py"), text=text)
        made.append(WorkerBench(request, SearchSettings(device="cpu")))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def test_a_worker_that_died_is_replaced_and_captures_again(make_bench):
    bench = make_bench()
    task = bench.capture()
    assert task.qualname == "Net"
    os.kill(bench._worker.pid, signal.SIGKILL)
    bench.prepare([KERNEL])
    assert bench.verify(KERNEL).verdict.accepted
    bench.reset()
    assert bench.verify(KERNEL).verdict.accepted


def test_a_worker_that_dies_at_a_kernel_costs_that_kernel(make_bench, monkeypatch):
    bench = make_bench()
    bench.capture()
    bench.device()

    def dying(method, *args, timeout):
        raise WorkerDied("The worker was ended by SIGSEGV during 'verify'.", timed_out=False)

    with monkeypatch.context() as patch:
        patch.setattr(bench._worker, "call", dying)
        verdict = bench.verify(KERNEL).verdict
    assert not verdict.accepted
    assert verdict.findings[0].check == "fault"
    assert "SIGSEGV" in verdict.findings[0].message
    assert bench.verify(KERNEL).verdict.accepted


def test_a_file_that_takes_the_process_down(make_bench):
    bench = make_bench(TEXT.replace("import os, torch", "import os; os._exit(3); import torch"))
    with pytest.raises(CaptureError, match=r"net\.py .*exit code 3"):
        bench.capture()
