"""A search process that needs no torch: ``stub_search.py SCENARIO -m search_engine search …``.

It writes to the store what a search would write, in the order in which one would.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from search_engine.deliver.delivery import Delivery
from search_engine.deliver.files import signed
from search_engine.proposers._base import Branch, Idea
from search_engine.store.store import Store
from search_engine.task import Task, TensorSpec
from search_engine.verdict import Baseline, Estimate, Finding, Measurement, Sample, Verdict


def sample(seconds: float) -> Sample:
    return Sample(seconds, seconds * 0.99, seconds * 1.01, 50)


MEASURED = Measurement(
    "NVIDIA H200",
    kernel=sample(1.0e-4),
    eager=sample(31.6e-4),
    compiled={"default": sample(1.31e-4)},
)


def delivery(path: Path, qualname: str, fingerprint: str, mark: str, *, measured: bool) -> Delivery:
    folder = f"{path.stem}_cuda"
    name = f"{qualname}_cuda"
    return Delivery(
        qualname=qualname,
        fingerprint=fingerprint,
        files={
            f"{folder}/{qualname}.cu": signed("a.cu", f"// kernel {mark}\n"),
            f"{folder}/{qualname}.py": signed(
                "a.py", f"def {name}(cls):\n    cls.accepted = {mark!r}\n    return cls\n"
            ),
        },
        import_line=f"from {folder}.{qualname} import {name}",
        decorator_line=f"@{name}",
        title="One warp per row",
        rationale="Every row is read once and kept in registers.",
        summary="×1.31 over torch.compile, ×31.6 over eager"
        if measured
        else "verified, not measured",
    )


def task(path: str, qualname: str, fingerprint: str) -> Task:
    return Task(
        path=path,
        qualname=qualname,
        module_name="net",
        fingerprint=fingerprint,
        inputs_from="comment",
        construction=f"{qualname}()",
        tensors=(
            TensorSpec("x", "input", "float32", (64, 256), (256, 1)),
            TensorSpec("out", "output", "float32", (64, 256), (256, 1)),
        ),
        scalars={},
        mode="eval",
        policy="match",
        target="h200",
        flops=1,
        min_bytes=1,
        longest_reduction=1,
        limit_seconds=8.0e-5,
        limit_reason="DRAM",
        graph=None,
    )


def main(scenario: str, run_id: str, store_path: Path) -> int:
    with (store_path.parent / "started.txt").open("a") as log:
        log.write(f"{run_id}\n")
    if scenario == "die":
        print("Traceback (most recent call last):", file=sys.stderr)
        print("ModuleNotFoundError: No module named 'torch'", file=sys.stderr)
        return 1
    store = Store(store_path)
    if not store.claim(run_id, f"stub-{os.getpid()}"):
        return 0
    run = store.run(run_id)
    store.set_progress(run_id, 0, "importing the module and its inputs")
    store.set_task(run_id, task(run.path, run.qualname, run.fingerprint))
    if any(event.message == "Taken up again." for event in store.events(run_id)):
        store.finish(run_id, "finished", f"Went on with {len(run.ideas)} ideas.")
        return 0
    if scenario == "fail":
        store.finish(run_id, "failed", "Net needs arguments: describe them in a comment.")
        return 0
    store.set_baseline(
        run_id, Baseline("NVIDIA H200", sample(31.6e-4), {"default": sample(1.31e-4)})
    )
    store.set_progress(run_id, 1, "verifying")
    ideas = [
        Idea("One warp per row", "Every row is read once.", "memory access", 2.0),
        Idea("Split [rows](http://evil)", "More blocks.", "parallelism and occupancy", None),
    ]
    store.add_ideas(run_id, 1, "playbook", ideas)
    first, second = store.run(run_id).ideas
    store.add_branches(run_id, first.id, [Branch("// one\n", "one")])
    store.add_branches(run_id, second.id, [Branch("// two\n", "two")])
    good, bad = store.run(run_id).kernels
    finding = Finding("race", "two writers", 3, place="block (0, 0, 0)")
    store.set_verdict(bad.id, Verdict(False, "NVIDIA H200", (finding,)), [])
    if scenario == "nothing":
        store.set_verdict(good.id, Verdict(False, "NVIDIA H200", (finding,)), [])
        store.finish(run_id, "finished", "Nothing faster found: eager is at 95% of the limit.")
        return 0
    store.set_verdict(good.id, Verdict(True, "NVIDIA H200"), [])
    if scenario == "estimate":
        store.set_estimate(good.id, Estimate("NVIDIA H200", 1.6e-4, "DRAM", {"DRAM": 1.6e-4}))
    else:
        store.set_measurement(good.id, MEASURED)
    if scenario == "slow":
        store.set_progress(run_id, 2, "verifying")
        for _ in range(600):
            time.sleep(0.05)
            if store.stop_requested(run_id):
                store.finish(run_id, "stopped", "Stopped.")
                return 0
            if (store_path.parent / "release").exists():
                break
            if (store_path.parent / "kill").exists():
                os.kill(os.getpid(), signal.SIGKILL)
    path = Path(run.path)
    measured = scenario != "estimate"
    offered = delivery(path, run.qualname, run.fingerprint, run_id, measured=measured)
    store.offer(run_id, good.id, offered)
    store.finish(run_id, "finished", "A faster kernel is verified.")
    return 0


if __name__ == "__main__":
    # SCENARIO -m search_engine search RUN_ID --store PATH
    raise SystemExit(main(sys.argv[1], sys.argv[5], Path(sys.argv[7])))
