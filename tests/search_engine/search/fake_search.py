"""A proposer and a bench that need no compiler, and a search with them as a process.

Run as ``fake_search.py STORE RUN_ID LOG``: it searches and appends a line to LOG for each
kernel that it verifies or times.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from search_engine.deliver.delivery import Delivery
from search_engine.errors import WorkerDied
from search_engine.hardware import H200
from search_engine.judgement import (
    DeliveredTimes,
    DeliveryCheck,
    DeviceInfo,
    Judgement,
    SideBySide,
)
from search_engine.proposers._base import Branch, Idea, Proposer
from search_engine.search.loop import Study
from search_engine.settings import SearchSettings
from search_engine.store.store import Store
from search_engine.task import CaptureRequest, Task, TensorSpec
from search_engine.verdict import (
    Baseline,
    BuildInfo,
    Estimate,
    Finding,
    Measurement,
    Sample,
    Verdict,
)

TASK = Task(
    path="/project/net.py",
    qualname="Net",
    module_name="net",
    fingerprint="f",
    inputs_from="comment",
    construction="Net()",
    tensors=(
        TensorSpec("x", "input", "float32", (64, 256), (256, 1)),
        TensorSpec("out", "output", "float32", (64, 256), (256, 1)),
    ),
    scalars={},
    mode="eval",
    policy="match",
    target="h200",
    flops=16384,
    min_bytes=131072,
    longest_reduction=1,
    limit_seconds=1e-6,
    limit_reason="DRAM",
    graph=None,
)
REQUEST = CaptureRequest(path="/project/net.py", text="class Net: ...", qualname="Net")
CATEGORIES = ("memory access", "parallelism and occupancy", "control flow and loops")

KERNEL = """// {name} seconds={seconds} {flags}
// launch: run<<<64, 256>>>(x, out)
extern "C" __global__ void run(const float* x, float* out) {{
    out[blockIdx.x * blockDim.x + threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
}}
"""


def kernel_text(name: str, seconds: float = 1e-5, flags: str = "") -> str:
    return KERNEL.format(name=name, seconds=seconds, flags=flags)


def start(store: Store, **settings) -> str:
    run_id, _ = store.start_run(REQUEST, "Net", "f", SearchSettings(**settings))
    return run_id


class FakeProposer(Proposer):
    """Three kernels per idea, faster from round to round; the last one is wrong."""

    def __init__(self, name: str = "fake", rounds: int = 99) -> None:
        self.name = name
        self.rounds = rounds
        self.told = []

    def ideas(self, task, history, count):
        self.told.append(history)
        if history.round > self.rounds:
            return []
        return [
            Idea(f"idea {history.round}.{i}", "because", CATEGORIES[i % 3], 2.0, f"{self.name}{i}")
            for i in range(count)
        ]

    def branches(self, task, idea, history, count):
        best = 1e-4 / history.round
        return [
            Branch(
                kernel_text(
                    f"{self.name} {idea.title} {i}",
                    best * (1 + i),
                    "wrong" if i == count - 1 else "",
                ),
                f"branch {i}",
            )
            for i in range(count)
        ]


class FakeBench:
    """Reads verdict and time from the kernel's first line."""

    def __init__(self, measures: bool = True, log: Path | None = None, delay: float = 0) -> None:
        self.measures = measures
        self.delay = delay
        self.log_path = log
        self.calls: list[tuple[str, str]] = []
        self.closed = False
        self.trusted: list[str] = []

    def _log(self, what: str, source: str) -> None:
        name = re.search(r"// (.*) seconds", source)
        entry = (what, name[1] if name else "")
        self.calls.append(entry)
        if self.log_path is not None:
            log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, f"{entry[0]}|{entry[1]}\n".encode())
            os.close(log)
        time.sleep(self.delay)

    @staticmethod
    def _seconds(source: str) -> float:
        match = re.search(r"seconds=(\S+)", source)
        return float(match[1]) if match else 1e-5

    def capture(self) -> Task:
        return TASK

    def device(self) -> DeviceInfo:
        return DeviceInfo("fake", H200, self.measures)

    def prepare(self, sources) -> None:
        for source in sources:
            self._log("compile", source)

    def verify(self, source: str) -> Judgement:
        self._log("verify", source)
        if "wrong" in source:
            finding = Finding("accuracy", "the output is wrong", place="out[0, 0]")
            return Judgement(Verdict(False, "fake", (finding,)), ())
        return Judgement(Verdict(True, "fake"), (BuildInfo("run", registers=32),))

    def estimate(self, source: str) -> Estimate | None:
        self._log("estimate", source)
        if "unmodelled" in source:
            return None
        return Estimate("NVIDIA H200", self._seconds(source), "DRAM", {"DRAM": 1e-6})

    def baseline(self) -> Baseline:
        self._log("baseline", "")
        return Baseline("fake", _sample(1e-3), {"default": _sample(2e-4)})

    def glance(self, source: str) -> Sample:
        self._log("glance", source)
        return _sample(self._seconds(source))

    def measure(self, source: str) -> Measurement:
        self._log("measure", source)
        if "dies" in source:
            raise WorkerDied("The worker ended on signal 11.")
        return Measurement(
            "fake", _sample(self._seconds(source)), _sample(1e-3), {"default": _sample(2e-4)}
        )

    def trust(self, sources) -> None:
        self.trusted += sources

    def render(self, kernel, idea) -> Delivery:
        self._log("render", kernel.source)
        files = {"net_cuda/Net.cu": kernel.source}
        return Delivery("Net", "f", files, "", "", idea.title, idea.rationale, "")

    def check_delivery(self, delivery, kernel) -> DeliveryCheck:
        self._log("deliver", kernel.source)
        if "undeliverable" in kernel.source:
            finding = Finding("delivery", "it differs")
            return DeliveryCheck(Verdict(False, "fake", (finding,)))
        if not self.measures:
            return DeliveryCheck(Verdict(True, "fake"))
        gpu = 1e-3 if "slow as delivered" in kernel.source else self._seconds(kernel.source)
        gpu *= 1.5 if "drifting" in kernel.source else 1.0
        match = re.search(r"launch=(\S+)", kernel.source)
        alone = gpu + (float(match[1]) if match else 3e-5)
        drift = 1.5 if "drifting with eager" in kernel.source else 1.0
        return DeliveryCheck(
            Verdict(True, "fake"),
            DeliveredTimes(
                SideBySide(_sample(gpu), _sample(1e-3 * drift), _sample(2e-4 * drift)),
                SideBySide(_sample(alone), _sample(1.02e-3), _sample(2.2e-4)),
            ),
        )

    def reset(self) -> None:
        self._log("reset", "")

    def close(self) -> None:
        self.closed = True


def study(store: Store, bench=None, proposers=None, **settings) -> Study:
    """A study that holds its run's lease."""
    run_id = start(store, **{"rounds": 2, "ideas": 2, "branches": 3, **settings})
    assert store.claim(run_id, "test")
    store.set_task(run_id, TASK)
    return Study(store, run_id, TASK, bench or FakeBench(), proposers or [FakeProposer()])


def events(study: Study, kind: str) -> list[str]:
    return [e.message for e in study.store.events(study.run_id) if e.kind == kind]


def _sample(median: float) -> Sample:
    return Sample(median, median * 0.99, median * 1.01, 100)


if __name__ == "__main__":
    from search_engine.search import process

    path, run_id, log = sys.argv[1:4]
    measures = sys.argv[4:] != ["estimates"]
    process.main(
        run_id,
        Path(path),
        open_bench=lambda request, settings: FakeBench(measures, Path(log), delay=0.002),
        open_proposers=lambda settings, facts: [FakeProposer()],
    )
