"""The doctor finds what is there, and says what to do about what is not."""

from __future__ import annotations

import json
import sys

import pytest

from search_engine import doctor, serial
from search_engine.errors import SetupError
from search_engine.hardware import GPUS


@pytest.fixture
def data(monkeypatch, tmp_path):
    monkeypatch.setenv("KERNEL_LSP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def quick(monkeypatch):
    """No compilation."""
    monkeypatch.setattr(doctor, "_nvrtc", lambda: doctor.Check("NVRTC", None, "not asked"))


def named(report, name):
    (check,) = [check for check in report.checks if check.name == name]
    return check


def test_this_machine_can_run_searches_and_the_report_is_plain_data(data):
    report = doctor.report()
    torch_check = named(report, "torch")
    assert torch_check.ok is True
    assert torch_check.found.split(",")[0] == sys.modules["torch"].__version__
    assert named(report, "data folder").ok is True
    assert str(data) in named(report, "data folder").found
    assert report.usable
    plain = json.loads(serial.dumps(report))
    assert plain["summary"].startswith("Searches run on the ")
    assert {"name", "ok", "found", "advice"} <= set(plain["checks"][0])


def test_every_missing_thing_comes_with_advice(data, quick):
    for check in doctor.report().checks:
        assert check.ok is not False or check.advice, check


def test_targets_are_listed_by_the_names_that_settings_take(data, quick):
    assert named(doctor.report(), "targets").found.split(", ") == sorted(GPUS)


def test_a_folder_that_cannot_be_written_is_told(monkeypatch, tmp_path, quick):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("KERNEL_LSP_DATA", str(blocker / "below"))
    report = doctor.report()
    check = named(report, "data folder")
    assert check.ok is False
    assert "KERNEL_LSP_DATA" in check.advice
    assert not report.usable
    assert "data folder" in report.summary


def test_without_gpu_and_compiler_no_search_can_run(monkeypatch, data, quick):
    def missing():
        raise SetupError("install g++")

    monkeypatch.setattr(doctor, "_cpp", missing)
    monkeypatch.setattr(doctor, "_gpus", lambda build: doctor.Check("GPU", None, "none"))
    report = doctor.report()
    assert not report.usable
    assert "install g++" in report.summary


def test_a_check_that_falls_over_is_a_finding_not_a_crash(monkeypatch, data):
    def broken():
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(doctor, "_nvrtc", broken)
    check = named(doctor.report(), "NVRTC")
    assert check.ok is False
    assert "ZeroDivisionError: oops" in check.found


def test_a_gpu_with_a_cpu_build_of_torch_is_pointed_out(monkeypatch):
    import torch

    monkeypatch.setattr(doctor, "_first_line", lambda command: "580.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    check = doctor._gpus("CPU build")
    assert check.ok is False
    assert "CUDA build of torch" in check.advice
