"""Search processes: detached, logged, and what is said when they end badly."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from kernel_lsp.engine import Engine
from search_engine.errors import SetupError


@pytest.fixture
def engine(tmp_path: Path):
    """An engine whose interpreter runs a Python body; ``arguments`` is what it was given."""

    def make(body: str) -> Engine:
        script = tmp_path / "body.py"
        script.write_text(f"import os, sys, time\narguments = sys.argv[1:]\n{body}\n")
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        python.chmod(0o755)
        (tmp_path / "data").mkdir(exist_ok=True)
        return Engine(tmp_path / "data" / "kernel-lsp.db", str(python))

    return make


def ended(engine: Engine, run_id: str) -> None:
    deadline = time.monotonic() + 20
    while engine.running(run_id):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_process_is_given(engine) -> None:
    found = engine(
        "print(arguments, os.getcwd(), os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    )
    found.start("r1")
    ended(found, "r1")
    folder = found.store_path.parent
    assert found.log_path("r1").read_text().strip() == (
        f"{['-m', 'search_engine', 'search', 'r1', '--store', str(found.store_path)]} "
        f"{folder} True ''"
    )
    assert found.failure("r1") is None


def test_a_process_is_started_once(engine) -> None:
    found = engine("print('here', flush=True)\ntime.sleep(30)")
    found.start("r1")
    found.start("r1")
    assert found.running("r1")
    assert found.failure("r1") is None
    assert found.kill("r1")
    ended(found, "r1")
    assert found.killed("r1")
    assert "SIGKILL" in (found.failure("r1") or "")
    assert not found.kill("r1")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('ModuleNotFoundError: No module named \\'torch\\'')", "has no torch"),
        ("sys.exit('/usr/bin/python3: No module named search_engine')", "has no kernel-lsp"),
        ("print('one')\nprint('last words')\nsys.exit(3)", "exit code 3 (last words)"),
        ("sys.exit(2)", "it printed nothing"),
    ],
)
def test_a_bad_end_is_one_sentence(engine, body: str, says: str) -> None:
    found = engine(body)
    found.start("r1")
    ended(found, "r1")
    failure = found.failure("r1")
    assert failure is not None
    assert says in failure
    assert "\n" not in failure
    assert not found.killed("r1")


def test_a_run_of_another_server_is_not_ours(engine) -> None:
    found = engine("")
    assert not found.running("other")
    assert found.failure("other") is None
    assert not found.kill("other")


def test_an_interpreter_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"/nowhere/python cannot be started .*interpreter"):
        Engine(tmp_path / "kernel-lsp.db", "/nowhere/python").start("r1")


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(SetupError, match="cannot be written"):
        Engine(tmp_path / "kernel-lsp.db").start("r1")


def test_old_logs_go(engine) -> None:
    found = engine("")
    logs = found.log_path("x").parent
    logs.mkdir()
    for number in range(60):
        log = logs / f"{number}.log"
        log.touch()
        os.utime(log, (number, number))
    found.start("r1")
    ended(found, "r1")
    assert len(list(logs.glob("*.log"))) <= 41
    assert not (logs / "0.log").exists()
    assert (logs / "59.log").exists()
