"""The cpu device's checking run, per access, beside another commit's, in turns: least CPU time.

Three kernels: a pointwise one (float4, no shared memory), LayerNorm (two reductions a row,
shuffles), a matrix product through shared memory. Each commit runs in a process of its own.

    python benchmarks/cpu_device.py [--against COMMIT] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

POINTWISE = r"""
// launch: silu<<<x.numel() / 1024, 256>>>(x, y, out)
extern "C" __global__ void silu(const float4* x, const float4* y, float4* out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float4 a = x[i], b = y[i];
  a.x = b.x * a.x / (1.0f + __expf(-a.x));
  a.y = b.y * a.y / (1.0f + __expf(-a.y));
  a.z = b.z * a.z / (1.0f + __expf(-a.z));
  a.w = b.w * a.w / (1.0f + __expf(-a.w));
  out[i] = a;
}
"""
KERNELS = ROOT / "tests/search_engine/devices/kernels"

# What each process runs: "name" on standard input, CPU seconds on standard output.
WORKER = r'''
import resource, sys
from pathlib import Path
import torch
from search_engine.contract.parse import parse
from search_engine.devices.cpu.device import CpuDevice
from search_engine.hardware import H200
from search_engine.task import Task, TensorSpec

pointwise, kernels = sys.argv[1], Path(sys.argv[2])

def spec(name, role, tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(name, role, dtype, tuple(tensor.shape), tuple(tensor.stride()))

def task(inputs, out):
    tensors = [spec(n, "input", t) for n, t in inputs.items()] + [spec("out", "output", out)]
    return Task(
        path="net.py", qualname="Net", module_name="net", fingerprint="", construction="Net()",
        inputs_from="get_inputs", tensors=tuple(tensors), scalars={}, mode="eval",
        policy="match", target="h200", flops=1, min_bytes=1, longest_reduction=1,
        limit_seconds=1e-6, limit_reason="DRAM", graph=None)

x = torch.randn(2**21)
rows = torch.randn(512, 1024)
a = torch.randn(192, 192)
CASES = {
    "pointwise": (pointwise, {"x": x, "y": x + 1}, x),
    "layer_norm": ((kernels / "layer_norm.cu").read_text(),
                   {"x": rows, "weight": rows[0].clone(), "bias": rows[1].clone()}, rows),
    "matmul": ((kernels / "matmul.cu").read_text(), {"a": a, "b": a + 1}, a),
}
device = CpuDevice(H200, timeout=120.0, cache=Path(sys.argv[3]))
programs = {}
for name, (source, inputs, out) in CASES.items():
    [program] = device.compile([parse(source)], task(inputs, out))
    programs[name] = program, task(inputs, out), inputs

def spent():
    """CPU seconds of the runner: other work of the machine does not count."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

print("ready", flush=True)
for line in sys.stdin:
    program, of, inputs = programs[line.strip()]
    start = spent()
    ran = device.execute(program, of, inputs, checked=True)
    print(spent() - start, len(ran.findings), flush=True)
'''

# Loads and stores of the kernels as compiled: of one launch, all threads together.
ACCESSES = {
    "pointwise": 2**21 // 4 * 3,
    # Per element: three reads of x, weight, bias, a write; the sums are few.
    "layer_norm": 512 * 1024 * 6 + 512 * (2 * (4 + 4 * 128)),
    # Per thread and tile: two reads and two writes, then 32 reads.
    "matmul": 192 * 192 * (12 * 36 + 1),
}


def _export(commit: str, folder: Path) -> None:
    packed = subprocess.run(
        ["git", "archive", commit, "search_engine"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def _start(source: Path, folder: Path) -> subprocess.Popen[str]:
    (folder / "cache").mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, POINTWISE, str(KERNELS), str(folder / "cache")],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(source)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", "the kernels do not compile"
    return process


def _time(process: subprocess.Popen[str], name: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name + "\n")
    process.stdin.flush()
    seconds, findings = process.stdout.readline().split()
    assert findings == "0", f"{name} has findings"
    return float(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="HEAD", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other")
        other.mkdir()
        _export(options.against, other)
        processes = {
            "before": _start(other, Path(folder, "before")),
            "after": _start(ROOT, Path(folder, "after")),
        }
        for name, count in ACCESSES.items():
            times: dict[str, list[float]] = {side: [] for side in processes}
            for _ in range(options.rounds + 1):  # the first warms up
                for side, process in processes.items():
                    times[side].append(_time(process, name))
            before, after = (min(times[side][1:]) for side in processes)
            print(
                f"{name:12}{before / count * 1e9:8.1f} ns{after / count * 1e9:8.1f} ns per access"
                f"   x{before / after:.2f}"
            )
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
