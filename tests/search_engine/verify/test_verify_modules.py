"""Modules of other kinds: integers, infinities, domains, dtypes, state; what is said of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from search_engine.verify.verify import verify

spec = importlib.util.spec_from_file_location(
    "fake_device", Path(__file__).with_name("fake_device.py")
)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)
FakeDevice, kernel = fake.FakeDevice, fake.kernel


def verdict(captured, function, **options):
    return verify(captured, kernel(function), FakeDevice(), seed=1, **options)


def test_integers_compare_exactly(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return (x * 2).argmax(-1)\n"
        "def get_inputs(): return [torch.rand(100, 7)]\n"
    )
    assert verdict(captured, lambda t, out: t["x"].argmax(-1)).accepted

    def wrong_ties(t, out):  # the last of equal ones
        return 6 - t["x"].flip(-1).argmax(-1)

    found = verdict(captured, wrong_ties)
    assert found.findings[0].check == "accuracy"
    assert "integers" in found.findings[0].message


def test_infinities_in_the_output_are_compared_by_kind(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('mask', torch.ones(8, 8).triu(1).bool())\n"
        "    def forward(self, x): return (x * 3).masked_fill(self.mask, float('-inf'))\n"
        "def get_inputs(): return [torch.rand(80, 8, 8)]\n"
    )
    honest = lambda t, out: (t["x"] * 3).masked_fill(t["mask"], float("-inf"))  # noqa: E731
    lowest = lambda t, out: (t["x"] * 3).masked_fill(t["mask"], -3e38)  # noqa: E731
    assert verdict(captured, honest).accepted
    assert verdict(captured, lowest).findings[0].check == "nonfinite"


def test_domains_that_the_module_needs(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return torch.log(x + 1e-6) * 2\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(captured, lambda t, out: torch.log(t["x"] + 1e-6) * 2)
    assert found.accepted, found.reason
    assert "normal positive" in {a.distribution for a in found.accuracy}


def test_dropped_distributions_are_named(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return torch.exp(x)\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(captured, lambda t, out: torch.exp(t["x"]))
    assert found.accepted, found.reason
    judged = {a.distribution for a in found.accuracy}
    assert "mean1000" not in judged  # e¹⁰⁰⁰ is infinite everywhere
    assert "mean1000 unit" in judged
    always = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return torch.log(-x.abs() - 1)\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(always, lambda t, out: torch.log(-t["x"].abs() - 1))
    assert found.findings[0].check == "no-reference"
    assert "default inputs were left out: eager gives NaN in out" in found.notes


def test_dtypes_fixed_in_forward_are_widened_for_the_reference(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        y = x.float().softmax(-1, dtype=torch.float32)\n"
        "        return (y + torch.zeros(96)).to(x.dtype)\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(captured, lambda t, out: t["x"].softmax(-1))
    assert found.accepted, found.reason
    assert not any("no fp64 reference" in note for note in found.notes)
    assert all(a.eager_error > 0 for a in found.accuracy)


def test_without_fp64_eager_itself_is_the_reference_and_it_is_said(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert x.dtype is torch.float32\n"
        "        return x.softmax(-1)\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(captured, lambda t, out: t["x"].softmax(-1))
    assert found.accepted, found.reason
    assert any("no fp64 reference" in note for note in found.notes)
    half = verdict(captured, lambda t, out: t["x"].half().float().softmax(-1))
    assert half.findings[0].check == "accuracy"


def test_a_module_that_a_null_kernel_equals_is_said(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x.softmax(-1).mean(-1) * 96 \n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )
    found = verdict(captured, lambda t, out: t["x"].softmax(-1).mean(-1) * 96)
    assert found.accepted, found.reason
    assert any("its mean everywhere" in note for note in found.notes)


def test_bfloat16_has_a_bound_of_its_own(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x.softmax(-1)\n"
        "def get_inputs(): return [torch.rand(80, 96).bfloat16()]\n"
    )
    assert verdict(captured, lambda t, out: t["x"].float().softmax(-1).bfloat16()).accepted
    coarse = lambda t, out: ((t["x"].float().softmax(-1) * 2**11).round() / 2**11).bfloat16()  # noqa: E731
    assert verdict(captured, coarse).findings[0].check == "accuracy"


def test_flushed_denormals_are_noted(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x * 0.5\n"
        "def get_inputs(): return [torch.rand(80, 96)]\n"
    )

    def flushing(t, out):
        result = t["x"] * 0.5
        return torch.where(result.abs() < 1.2e-38, 0.0, result)

    found = verdict(captured, flushing)
    assert found.accepted, found.reason
    assert "denormal numbers in out are flushed to zero" in found.notes


def test_values_that_forward_refuses_are_never_given(module):
    """On a GPU the refusal of binary_cross_entropy ends the process."""
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, p, y): return F.binary_cross_entropy(p, y)\n"
        "def get_inputs(): return [torch.rand(80, 96), torch.rand(80, 96).round()]\n"
    )
    assert captured.accepts == "unit"
    ranges = []

    def honest(t, out):
        ranges.append((float(t["p"].min()), float(t["p"].max())))
        return F.binary_cross_entropy(t["p"], t["y"])

    found = verdict(captured, honest)
    assert found.accepted, found.reason
    assert all(0 <= low <= high <= 1 for low, high in ranges)
    assert len(ranges) > 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_that_capture_does_not_see_is_not_taken_for_eagers_error(module, dtype):
    captured = module(
        "CALLS = [0]\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        CALLS[0] += 1\n"
        "        return x * CALLS[0]\n"
        f"def get_inputs(): return [torch.rand(80, 96, dtype=torch.{dtype})]\n"
    )
    for _ in range(2):
        (finding,) = verdict(captured, lambda t, out: t["x"]).findings
        assert finding.check == "no-reference"
        assert "differ from call to call" in finding.message
