"""The parts of measuring that need no GPU."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest
import torch

from search_engine.capture.call import Call
from search_engine.errors import SetupError
from search_engine.measure import compiled
from search_engine.measure.measure import _impossible, relative_error
from search_engine.task import Task


@pytest.mark.parametrize(
    ("output", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, 1.0], 1 / math.sqrt(2)),
        ([math.nan, 2.0], [1.0, 2.0], math.inf),
        ([1.0, 2.0], [1.0, math.inf], math.inf),
        ([math.inf, 2.0], [math.inf, 2.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-30], [0.0, 0.0], math.inf),
    ],
)
def test_relative_error(output, expected, error):
    assert relative_error(torch.tensor(output), torch.tensor(expected)) == pytest.approx(error)


def test_integers_must_be_equal():
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 2])) == 0
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 3])) == math.inf


class Doubling(torch.nn.Module):
    def forward(self, x):
        return 2 * x


CALL = Call((torch.ones(3),), {})


def test_a_mode_that_fails_is_a_note_and_the_other_stays(monkeypatch):
    def fake(module, *, mode, dynamic):
        assert dynamic is False
        if mode != "default":
            raise RuntimeError("no Triton here\nand more lines")
        return module

    monkeypatch.setattr(torch, "compile", fake)
    found, notes = compiled.compile_modes(Doubling(), CALL)
    assert list(found) == ["default"]
    assert "default" in notes[0]
    assert notes[1].endswith("failed: RuntimeError: no Triton here")


def test_a_mode_that_takes_too_long_is_given_up_though_it_catches_exceptions(monkeypatch):
    def fake(module, *, mode, dynamic):
        def run(x):
            try:
                time.sleep(30)
            except Exception:  # noqa: BLE001 - as torch.compile does
                return x

        return run

    monkeypatch.setattr(torch, "compile", fake)
    started = time.monotonic()
    found, notes = compiled.compile_modes(Doubling(), CALL, limit=0.1)
    assert found == {}
    assert all("took more than" in note for note in notes)
    assert time.monotonic() - started < 10


def test_a_device_that_only_estimates_is_refused():
    from search_engine.measure.measure import baseline

    device = type("Estimating", (), {"measures": False, "name": "cpu (SIMT)"})()
    with pytest.raises(SetupError, match="times need a GPU"):
        baseline(None, device)


def test_measuring_is_imported_without_cuda_bindings():
    code = (
        "import sys\nsys.modules['cuda'] = None\nimport search_engine.measure.measure\n"
        "import search_engine.measure.module, search_engine.devices.select\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_time_below_what_is_certain_is_impossible_and_one_below_the_limit_is_not():
    task = Task(
        path="", qualname="Net", module_name="net", fingerprint="", inputs_from="comment",
        construction="Net()", tensors=(), scalars={}, mode="eval", policy="match", target="h200",
        flops=0, min_bytes=0, longest_reduction=1, limit_seconds=833e-6, limit_reason="products",
        graph=None, certain_seconds=17e-6, certain_reason="DRAM: 71.3 MB at 4.28 TB/s",
    )  # fmt: skip
    assert _impossible(task, 135e-6) == []
    assert _impossible(task, 0.96 * 17e-6) == []
    (finding,) = _impossible(task, 0.94 * 17e-6)
    assert finding.check == "faster-than-limit"
    assert "16.0 µs is less than the hardware allows for the work (17.0 µs: DRAM" in finding.message
