from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from search_engine.errors import WorkerDied
from search_engine.verdict import Finding
from search_engine.verify import session
from search_engine.verify.verify import verify

spec = importlib.util.spec_from_file_location(
    "fake_device", Path(__file__).with_name("fake_device.py")
)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)
FakeDevice, kernel = fake.FakeDevice, fake.kernel

NORM = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(96)
    def forward(self, x): return F.relu(self.ln(x).clamp(-3, 3))
def get_inputs(): return [torch.rand(80, 96)]
"""


def norm(t, out, *, x=None, weight=None):
    x = t["x"] if x is None else x
    weight = t["ln.weight"] if weight is None else weight
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return F.relu((centred * scale * weight + t["ln.bias"]).clamp(-3, 3))


def verdict(captured, function, **options):
    return verify(captured, kernel(function), FakeDevice(), seed=1, **options)


@pytest.fixture
def captured(module):
    return module(NORM)


def test_an_honest_kernel_is_accepted_with_its_figures(captured):
    device = FakeDevice()
    found = verify(captured, kernel(norm), device)
    assert found.accepted, found.reason
    assert found.device == "fake"
    assert found.notes == ()
    assert {a.distribution for a in found.accuracy} >= {"default", "mean1000", "wide", "tiny"}
    assert all(
        a.error <= a.bound and a.worst_row_error <= a.worst_row_bound for a in found.accuracy
    )
    checked, offsets, _ = zip(*device.runs, strict=True)
    assert checked[0]
    assert not any(checked[1:])
    assert len(set(offsets)) > 5


def test_every_run_has_fresh_inputs_and_parameters(captured):
    device = FakeDevice()
    verify(captured, kernel(norm), device)
    first, repeated, *others = device.tensors
    assert all(torch.equal(first[n], repeated[n]) for n in first)
    for name in ("x", "ln.weight", "ln.bias"):
        assert not any(torch.equal(first[name], other[name]) for other in others)


def test_the_modules_own_parameters_come_back(captured):
    verdict(captured, norm)
    assert torch.equal(captured.module.ln.weight, torch.ones(96))


def last_rows_missing(t, out):
    out["out"][:-2] = norm(t, out)[:-2]
    return out["out"]


def one_row_off(t, out):
    result = norm(t, out)
    result[17] *= 1.0001
    return result


def moments(t, out):
    mean = t["x"].mean(-1, keepdim=True)
    variance = t["x"].square().mean(-1, keepdim=True) - mean.square()
    normal = (t["x"] - mean) * torch.rsqrt(variance.clamp(min=0) + 1e-5)
    return F.relu((normal * t["ln.weight"] + t["ln.bias"]).clamp(-3, 3))


def no_clamp(t, out):
    x = F.layer_norm(t["x"], (96,), t["ln.weight"], t["ln.bias"])
    return F.relu(x)


def tf32(x):
    """The ten bits of mantissa that TF32 keeps."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


EVASIONS = {
    "zeros": (lambda t, out: torch.zeros_like(out["out"]), "accuracy"),
    "nothing written": (lambda t, out: out["out"], "unwritten"),
    "copy of the input": (lambda t, out: t["x"], "accuracy"),
    "constant": (lambda t, out: torch.full_like(out["out"], 0.4), "accuracy"),
    "last rows missing": (last_rows_missing, "unwritten"),
    "one row off": (one_row_off, "accuracy"),
    "unstable variance": (moments, "accuracy"),
    "fp16 inputs": (lambda t, out: norm(t, out, x=t["x"].half().float()), "accuracy"),
    "fp16 result": (lambda t, out: norm(t, out).half().float(), "accuracy"),
    "TF32 result": (lambda t, out: tf32(norm(t, out)), "accuracy"),
    "parameters at their defaults": (
        lambda t, out: norm(t, out, weight=torch.ones(96)),
        "accuracy",
    ),
    "clamp left out": (no_clamp, "accuracy"),
    "NaN swallowed": (lambda t, out: torch.nan_to_num(norm(t, out)), "nonfinite"),
    "wrong shape": (lambda t, out: norm(t, out)[:, :5], "output"),
    "wrong dtype": (lambda t, out: norm(t, out).double(), "output"),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_evasions_are_rejected_by_name(captured, name):
    function, check = EVASIONS[name]
    found = verdict(captured, function)
    assert not found.accepted
    assert found.findings[0].check == check


def test_a_rejection_names_numbers_and_place(captured):
    (finding,) = verdict(captured, one_row_off).findings
    assert "on default inputs" in finding.message
    assert "over the bound of" in finding.message
    assert finding.place.startswith("out[17, ")
    (finding,) = verdict(captured, last_rows_missing).findings
    assert finding.place == "out[78, 0]"
    assert "192 of 7680 elements" in finding.message


def test_wrong_kernels_are_gone_after_the_first_draw(captured):
    device = FakeDevice()
    verify(captured, kernel(EVASIONS["zeros"][0]), device)
    assert len(device.runs) == 2  # the draw and its repetition


def test_findings_of_the_device_reject(captured):
    device = FakeDevice()
    device.findings = (Finding("race", "two threads write out[0]"),)
    found = verify(captured, kernel(norm), device)
    assert found.findings == device.findings
    assert len(device.runs) == 1


def test_a_kernel_that_kills_its_process_is_rejected(captured):
    def die(t, out):
        raise WorkerDied("The worker ended with signal 11.")

    assert verdict(captured, die).findings[0].check == "fault"


def test_results_of_an_earlier_launch_do_not_pass(captured):
    kept = []

    def cached(t, out):
        kept.append(norm(t, out))
        return kept[0]

    assert verdict(captured, cached).findings[0].check == "accuracy"


def test_runs_that_differ_in_bits_are_noted_and_rejected_in_deterministic_mode(captured):
    count = [0]

    def racy(t, out):
        count[0] += 1
        return norm(t, out) * (1 + 2**-23 * (count[0] % 2))

    found = verdict(captured, racy)
    assert found.accepted, found.reason
    assert "two runs on the same inputs differ bit for bit" in found.notes
    torch.use_deterministic_algorithms(True)
    try:
        assert verdict(captured, racy).findings[0].check == "nondeterministic"
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_checking_build_that_rounds_otherwise_is_not_called_a_race(captured):
    count = [0]

    def build_dependent(t, out):
        count[0] += 1
        return norm(t, out) * (1 + 2**-23 * (count[0] == 1))

    torch.use_deterministic_algorithms(True)
    try:
        found = verdict(captured, build_dependent)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.accepted, found.reason
    assert found.notes == ()


def test_a_repetition_must_pass_by_itself(captured):
    count = [0]

    def sometimes(t, out):
        count[0] += 1
        return norm(t, out) * (1.01 if count[0] == 2 else 1.0)

    (finding,) = verdict(captured, sometimes).findings
    assert "on repeated default inputs is" in finding.message


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(session, "LARGEST", 40 * 96)
    monkeypatch.setattr(session, "FURTHER", 10 * 96)


def test_large_modules_are_checked_at_a_smaller_leading_size_and_it_is_said(captured, small_limits):
    device = FakeDevice()
    found = verify(captured, kernel(norm), device)
    assert found.accepted, found.reason
    assert found.notes[0] == "checked with a first dimension of 40 instead of 80"
    assert found.notes[1] == "all draws but one with a first dimension of 10"
    rows = [shapes["x"][0] for _, _, shapes in device.runs]
    assert set(rows[:-1]) == {10}
    assert rows[-1] == 40


def test_a_kernel_made_for_the_full_size_is_checked_there(captured, small_limits):
    device = FakeDevice()

    def fixed(t, out):
        return norm(t, out) if len(t["x"]) == 40 else out["out"]

    found = verify(captured, kernel(fixed), device)
    assert found.accepted, found.reason
    assert {shapes["x"][0] for _, _, shapes in device.runs[1:]} == {10, 40}
    assert (
        verify(captured, kernel(last_rows_missing), FakeDevice()).findings[0].check == "unwritten"
    )


def test_errors_at_full_size_alone_are_found(captured, small_limits):
    def overflowing(t, out):
        return norm(t, out) if len(t["x"]) < 40 else one_row_off(t, out)

    assert verdict(captured, overflowing).findings[0].check == "accuracy"


def test_seeds_are_secret_unless_given(captured):
    def inputs(seed):
        device = FakeDevice()
        other = captured.to("cpu")
        verify(other, kernel(norm), device, seed=seed)
        return device.tensors[0]["x"]

    assert torch.equal(inputs(3), inputs(3))
    assert not torch.equal(inputs(None), inputs(None))


def test_a_device_lost_with_the_kernel_does_not_hide_what_the_kernel_did(captured, monkeypatch):
    def lost(self):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def die(t, out):
        raise WorkerDied("The kernel faulted and took the CUDA context with it.")

    def refuse(t, out):
        raise ValueError("the original")

    monkeypatch.setattr("search_engine.capture.captured.Captured.restore", lost)
    (finding,) = verdict(captured, die).findings
    assert finding.message.startswith("The kernel faulted")
    with pytest.raises(ValueError, match="the original"):
        verdict(captured, refuse)
