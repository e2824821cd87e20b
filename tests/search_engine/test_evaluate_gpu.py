"""The evaluator on a real GPU: what is delivered is verified and timed as it will run."""

import pytest
import torch

from search_engine.evaluate import Evaluator
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

TEXT = """\
import torch


# kernel-lsp: Chain(), x=float32[4096, 4096]
class Chain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.ones(4096))

    def forward(self, x):
        return (x * 2 + self.bias) * 0.5 - 1
"""
KERNEL = """\
// launch: chain<<<16 * sm_count, 256>>>(x, bias, out, x.numel() / 4)
extern "C" __global__ void chain(const float4* x, const float4* bias, float4* out, int n) {
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
        float4 v = x[i], b = bias[i % 1024];
        out[i] = make_float4((v.x * 2 + b.x) * 0.5f - 1, (v.y * 2 + b.y) * 0.5f - 1,
                             (v.z * 2 + b.z) * 0.5f - 1, (v.w * 2 + b.w) * 0.5f - 1);
    }
}
"""


def test_a_delivery_is_timed_as_the_bare_kernel_was(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNEL_LSP_DATA", str(tmp_path / "data"))
    path = tmp_path / "chaining.py"
    path.write_text(TEXT)
    evaluator = Evaluator(CaptureRequest(path=str(path), text=TEXT), SearchSettings(device="cuda"))
    try:
        verdict = evaluator.verify(KERNEL).verdict
        assert verdict.accepted, verdict.findings
        measured = evaluator.measure(KERNEL)
        idea = Idea("One pass", "Reads once.", "memory access", 1.5)
        delivery = evaluator.render(KERNEL, idea, verdict, measured, None)
        checked = evaluator.check_delivery(delivery)
    finally:
        evaluator.close()
    assert checked.verdict.accepted, checked.verdict.findings
    # One pass over memory against four, by either clock.
    for times in (checked.times.gpu, checked.times.alone):
        assert times.delivered.median < times.eager.median
        assert times.compiled is not None
    assert checked.times.gpu.delivered.median == pytest.approx(measured.kernel.median, rel=0.3)
    assert checked.times.alone.delivered.median > checked.times.gpu.delivered.median
