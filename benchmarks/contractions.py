"""Times the playbook's tiled contractions on a GPU, beside eager and torch.compile.

Every offered variant of a task is run, and ``--more`` others drawn from the ideas' knobs; the
best of each kind is verified and timed again, interleaved with the baselines.

    python benchmarks/contractions.py                 # all tasks
    python benchmarks/contractions.py --more 60 matmul first-convolution
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from attrs import frozen

from search_engine.capture.capture import capture
from search_engine.capture.captured import Captured
from search_engine.contract.parse import parse
from search_engine.devices._base import Program, Rejected
from search_engine.devices.cuda.device import CudaDevice
from search_engine.measure.measure import glance, measure
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import PlaybookIdea, Variant
from search_engine.playbook.ideas.tile_registers import TileRegisters
from search_engine.playbook.ideas.tile_tensor_cores import TileTensorCores
from search_engine.task import CaptureRequest
from search_engine.verify.verify import verify

# name: inputs, what forward returns, what __init__ makes
TASKS = {
    "matmul": ("x=float32[4096, 4096], w=float32[4096, 4096]", "x @ w", "pass"),
    "linear": ("x=float32[4096, 4096]", "F.gelu(self.l(x))", "self.l = nn.Linear(4096, 4096)"),
    "linear-bf16": (
        "x=bfloat16[4096, 4096]",
        "F.gelu(self.l(x))",
        "self.l = nn.Linear(4096, 4096).bfloat16()",
    ),
    "odd-linear": ("x=float32[1000, 777]", "F.silu(self.l(x))", "self.l = nn.Linear(777, 333)"),
    "batched": ("x=float32[64, 512, 128], w=float32[64, 128, 512]", "x @ w", "pass"),
    "skinny": ("x=float32[32, 8192], w=float32[8192, 512]", "x @ w", "pass"),
    "first-convolution": (
        "x=float32[100, 3, 224, 224]",
        "self.c(x)",
        "self.c = nn.Conv2d(3, 96, 11, stride=4, padding=2)",
    ),
    "block": (
        "x=float32[32, 64, 56, 56]",
        "F.relu(self.b(self.c(x)))",
        "self.c = nn.Conv2d(64, 64, 3, padding=1)\n        self.b = nn.BatchNorm2d(64)",
    ),
    "block-half": (
        "x=float16[32, 64, 56, 56]",
        "F.relu(self.b(self.c(x)))",
        "self.c = nn.Conv2d(64, 64, 3, padding=1).half()\n"
        "        self.b = nn.BatchNorm2d(64).half()",
    ),
}


@frozen
class Timed:
    """One variant with a short timing, in seconds."""

    seconds: float
    kind: str
    label: str
    program: Program


def captured_task(name: str, device: CudaDevice, folder: Path) -> Captured:
    """The task's module on the GPU."""
    inputs, result, made = TASKS[name]
    arguments = ", ".join(part.split("=")[0] for part in inputs.split("], ")).replace(" ,", ",")
    text = (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"
        f"# kernel-lsp: Net(), {inputs}\nclass Net(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n        {made}\n\n"
        f"    def forward(self, {arguments}):\n        return {result}\n"
    )
    path = folder / f"{name.replace('-', '_')}.py"
    captured = capture(CaptureRequest(path=str(path), text=text), device.facts)
    return captured.to(device.torch_device)


def variants(
    idea: PlaybookIdea, captured: Captured, device: CudaDevice, more: int
) -> list[Variant]:
    """Those that the idea offers, then ``more`` valid ones at random."""
    program = analyse(captured.task)
    found = list(idea.variants(program, device.facts))
    turns = {name: values for name, (values, _, _) in idea.knobs.items() if name != "split"}
    pool = [dict(zip(turns, values, strict=True)) for values in itertools.product(*turns.values())]
    random.Random(7).shuffle(pool)
    split = found[0].number("split")
    wanted = len(found) + more
    for settings in pool:
        if len(found) >= wanted:
            break
        knobs = {name: settings.get(name, split) for name in idea.knobs}
        variant = Variant.of(**knobs)
        if variant not in found and idea.valid(program, variant, device.facts):
            found.append(variant)
    return found


def timed(captured: Captured, device: CudaDevice, more: int) -> list[Timed]:
    """All variants of the task that compile, the fastest first."""
    program = analyse(captured.task)
    entries: list[tuple[str, Variant, str]] = []
    for idea in (TileTensorCores(), TileRegisters()):
        if not idea.applies(program, device.facts):
            continue
        for variant in variants(idea, captured, device, more):
            source = idea.render(program, variant, device.facts)
            products = dict(variant.knobs).get("products", "")
            entries.append((f"{idea.key} {products}".strip(), variant, source))
    programs = device.compile([parse(source) for _, _, source in entries], captured.task)
    found = [
        Timed(glance(captured, item, device).median, kind, variant.label, item)
        for (kind, variant, _), item in zip(entries, programs, strict=True)
        if not isinstance(item, Rejected)
    ]
    return sorted(found, key=lambda item: item.seconds)


def report(name: str, captured: Captured, device: CudaDevice, more: int) -> None:
    """Prints the task's line, and one for the best variant of each kind."""
    task = captured.task
    print(f"{name}: limit {task.limit_seconds * 1e3:.3f} ms ({task.limit_reason})", flush=True)
    kinds: set[str] = set()
    for item in timed(captured, device, more):
        if item.kind in kinds:
            continue
        kinds.add(item.kind)
        verdict = verify(captured, item.program, device)
        if not verdict.accepted:
            print(f"  {item.kind}: rejected, {verdict.reason} ({item.label})", flush=True)
            continue
        found = measure(captured, item.program, device)
        others = {"eager": found.eager, **found.compiled}
        beside = ", ".join(f"{key} {sample.median * 1e3:.4f}" for key, sample in others.items())
        print(
            f"  {item.kind}: {found.kernel.median * 1e3:.4f} ms; {beside} ({item.label})",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tasks that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--more", type=int, default=0, help="random variants beside the offered")
    options = parser.parse_args(arguments)
    device = CudaDevice()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tasks:
            report(name, captured_task(name, device, Path(folder)), device, options.more)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
