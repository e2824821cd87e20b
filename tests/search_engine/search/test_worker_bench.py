"""The real bench: a worker that dies costs what it was at, nothing else."""

import os
import signal

import pytest

from search_engine.errors import CaptureError, WorkerDied
from search_engine.search.sweep import Sweep
from search_engine.search.worker_bench import WorkerBench
from search_engine.settings import SearchSettings
from search_engine.store.records import KernelRecord
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


def test_a_sweep_on_the_cpu_device_ranks_by_estimate(make_bench):
    # 256 elements in blocks of 96 leave a block that reads and writes past the end.
    template = "// tune: BLOCK = 96 | 32 | 64\n" + KERNEL.replace(
        "x.size(0), 64", "ceil_div(x.numel(), BLOCK), BLOCK"
    ).replace("* 64", "* BLOCK")
    bench = make_bench()
    kept = []
    sweep = Sweep(
        kernel=KernelRecord(1, 1, 0, "", template, (), None, None, None, 0.0, False),
        task=bench.capture(),
        settings=SearchSettings(device="cpu"),
        bench=bench,
        trusted=True,
        keep=lambda configuration, best: kept.append((configuration, best)),
        over=lambda: False,
        at_work=lambda position, count, values: None,
    )
    assert sweep.run()
    tried = {configuration.values["BLOCK"]: configuration for configuration, _ in kept}
    assert set(tried) == {"32", "64", "96"}
    assert not tried["96"].verdict.accepted
    assert tried["96"].estimate is None
    passed = [tried["32"], tried["64"]]
    assert all(done.verdict.accepted and done.measurement is None for done in passed)
    fastest = min(passed, key=lambda done: done.estimate.seconds)
    last = [(configuration, best) for configuration, best in kept if best is not None][-1]
    assert last[0] == fastest
    assert f"#define BLOCK {fastest.values['BLOCK']} " in last[1]
