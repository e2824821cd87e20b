"""Workers: results, errors, deaths, hangs, restarts, keys, logs, and who ends with whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from search_engine.contract.errors import ContractError
from search_engine.errors import CaptureError, SetupError, WorkerDied
from search_engine.verdict import Finding
from search_engine.workers.worker import Replay, Worker

HERE = "worker_subject"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def worker(tmp_path):
    with Worker(f"{HERE}:Subject", {"start": 5}, log=tmp_path / "log") as made:
        yield made


def test_state_lives_in_one_child_that_has_torch_and_no_cuda_context(worker):
    assert worker.call("add", 2, timeout=PATIENCE) == 7
    assert worker.call("add", 3, timeout=PATIENCE) == 10
    state = worker.call("process", timeout=PATIENCE)
    assert state["pid"] == worker.pid != os.getpid()
    assert state["torch_before_us"]
    assert not state["cuda"]
    assert worker.starts == 1


def test_a_known_error_crosses_as_itself_and_the_child_lives_on(worker):
    with pytest.raises(CaptureError, match="forward needs x"):
        worker.call("refuse", timeout=PATIENCE)
    finding = Finding("launch-syntax", "expected <<<", 3, 7)
    with pytest.raises(ContractError) as caught:
        worker.call("break_contract", finding, timeout=PATIENCE)
    assert caught.value.findings == (finding,)
    assert caught.value.exit_code == 1
    assert str(caught.value) == str(finding)
    assert worker.call("add", 1, timeout=PATIENCE) == 6
    assert worker.starts == 1


def test_an_unexpected_error_is_one_line_here_and_a_traceback_in_the_log(worker):
    with pytest.raises(WorkerDied, match="ZeroDivisionError: division by zero") as caught:
        worker.call("divide", timeout=PATIENCE)
    assert "\n" not in str(caught.value)
    assert "Traceback" in worker.log.read_text()
    assert worker.call("add", 1, timeout=PATIENCE) == 6
    assert worker.starts == 2


@pytest.mark.parametrize(
    ("method", "name"), [("crash", "SIGSEGV"), ("kill", "SIGKILL"), ("leave", "exit code 3")]
)
def test_a_death_is_said_and_the_next_call_finds_a_fresh_child(worker, method, name):
    worker.call("add", 10, timeout=PATIENCE)
    with pytest.raises(WorkerDied, match=name) as caught:
        worker.call(method, timeout=PATIENCE)
    assert not caught.value.timed_out
    assert worker.pid is None
    assert worker.call("add", 1, timeout=PATIENCE) == 6


def test_a_hang_is_ended_with_all_that_it_started(worker):
    worker.call("add", 1, timeout=PATIENCE)
    child, grandchild = worker.pid, worker.call("spawn", timeout=PATIENCE)
    with pytest.raises(WorkerDied, match=r"more than 0\.5 s for 'hang'") as caught:
        worker.call("hang", timeout=0.5)
    assert caught.value.timed_out
    wait_until(lambda: not running(child) and not running(grandchild))
    assert worker.call("add", 1, timeout=PATIENCE) == 6


def test_calls_are_replayed_in_a_fresh_child_only(worker):
    worker.on_restart.append(Replay("add", (100,)))
    assert worker.call("add", 1, timeout=PATIENCE) == 6
    with pytest.raises(WorkerDied):
        worker.call("kill", timeout=PATIENCE)
    assert worker.call("add", 1, timeout=PATIENCE) == 106


def test_a_factory_that_refuses_says_why(tmp_path):
    with (
        Worker(f"{HERE}:refusing", log=tmp_path / "log") as worker,
        pytest.raises(CaptureError, match="no such class"),
    ):
        worker.call("anything", timeout=PATIENCE)


def test_children_have_no_keys_and_the_parent_keeps_its_own(monkeypatch, tmp_path):
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from search_engine.workers.worker import Worker\n"
        "if __name__ == '__main__':\n"
        f"    with Worker('{HERE}:Subject', {{'start': 1}}, log=None) as worker:\n"
        "        seen = worker.call('environment', timeout=60.0)\n"
        "    assert os.environ['OPENAI_API_KEY'] == 'sk-mine' == os.popen("
        "'echo $OPENAI_API_KEY').read().strip()\n"
        "    print('\\n'.join(seen))\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "sk-mine",
        "github_token": "ghp-mine",
        "KERNEL_LSP_DATA": str(tmp_path),
        "HARMLESS": "1",
    }
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HARMLESS=1" in done.stdout
    assert "mine" not in done.stdout  # neither in os.environ nor in /proc/self/environ


def test_what_the_child_prints_goes_to_the_log(worker, capfd):
    worker.call("shout", timeout=PATIENCE)
    out, err = capfd.readouterr()
    assert "shouted" not in out + err
    assert worker.log.read_text().count("shouted") == 3


def test_a_busy_child_dies_with_its_parent(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from search_engine.workers.worker import Worker\n"
        "if __name__ == '__main__':\n"
        f"    worker = Worker('{HERE}:Subject', {{'start': 1}})\n"
        "    worker.call('add', 1, timeout=60.0)\n"
        "    print(worker.pid, flush=True)\n"
        "    worker.call('hang', timeout=600.0)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERNEL_LSP_DATA": str(tmp_path)},
    )
    child = int(parent.stdout.readline())
    assert running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not running(child))


def test_a_child_that_retires_is_replaced_though_its_call_returned(worker):
    worker.call("add", 1, timeout=PATIENCE)
    assert worker.call("fail_quietly", timeout=PATIENCE) == "a verdict"
    assert worker.pid is None
    assert worker.call("add", 1, timeout=PATIENCE) == 6


def test_the_reason_is_what_came_first_and_is_one_line(worker):
    with pytest.raises(WorkerDied) as caught:
        worker.call("fail_then_stumble", timeout=PATIENCE)
    assert str(caught.value) == "The device is gone."
    with pytest.raises(WorkerDied) as caught:
        worker.call("stumble", timeout=PATIENCE)
    assert str(caught.value) == "The worker failed: RuntimeError: the first line"


def test_a_death_inside_the_childs_own_device_crosses_and_the_child_lives_on(worker):
    worker.call("add", 1, timeout=PATIENCE)
    with pytest.raises(WorkerDied, match="The runner hung") as caught:
        worker.call("device_process_died", timeout=PATIENCE)
    assert caught.value.timed_out
    assert worker.call("add", 1, timeout=PATIENCE) == 7


def test_results_that_do_not_pickle_are_told(worker):
    with pytest.raises(WorkerDied, match="pickle"):
        worker.call("unpicklable", timeout=PATIENCE)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition) -> None:
    until = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < until, "it did not come true within 10 s"
        time.sleep(0.02)


def test_a_full_disk_is_said_and_is_nobodys_death(worker):
    with pytest.raises(SetupError, match="disk is full: free some space"):
        worker.call("fill_the_disk", timeout=PATIENCE)
    with pytest.raises(CaptureError, match="forward needs x"):
        worker.call("fail_where_nothing_can_be_logged", timeout=PATIENCE)
    assert worker.starts == 1
