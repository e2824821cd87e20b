"""The script under the recorder is the script as it is without: output, code, signals, names."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from search_engine.errors import KernelLspError, SetupError
from search_engine.record.command import parse_command
from search_engine.record.launch import record
from search_engine.store.store import Store

NET = """\
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x + 1
"""

SHOW = """
import json, os, sys
print(json.dumps([sys.argv, __name__, globals().get("__file__"), sys.path[0], str(__package__),
                  sys.modules["__main__"].__dict__ is globals(),
                  sorted(m for m in sys.modules if "recorder" in m and "_kernel" not in m)]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["show.py", "a", "--b"],
        ["pkg/inner.py"],
        ["-m", "pkg.inner", "x"],
        ["-m", "pkg"],
        ["pkg"],
        ["-c", SHOW, "y"],
        ["-P", "show.py"],
        ["-I", "show.py"],
    ],
)
def test_the_script_sees_what_it_would_see_alone(project, run, capfd, words):
    if words[0] == "-P" and sys.version_info < (3, 11):
        pytest.skip("-P is new in Python 3.11")
    project("show.py", SHOW)
    project("pkg/__init__.py", "")
    project("pkg/inner.py", SHOW)
    project("pkg/__main__.py", SHOW)
    alone = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    recorded, _ = run(*words)
    assert recorded.code == 0
    assert json.loads(capfd.readouterr().out) == json.loads(alone.stdout)


@pytest.mark.parametrize(
    "end",
    [
        "raise ValueError('boom')",
        "sys.exit(7)",
        "sys.exit('a message')",
        "raise SystemExit",
        "os._exit(5)",
        "def f():\n    1 / 0\nf()",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise KeyboardInterrupt",
        "import missing_module",
        "this is no Python",
    ],
)
def test_it_ends_as_it_would_alone(project, run, stand_in, capfd, end):
    text = "import os, signal, sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)\n"
    project("end.py", f"{text}{end}\n")
    alone = subprocess.run([sys.executable, "end.py"], capture_output=True, text=True)
    recorded, _ = run("end.py")
    shown = capfd.readouterr()
    assert (recorded.code, shown.out, shown.err) == (alone.returncode, alone.stdout, alone.stderr)


@pytest.mark.parametrize("end", ["raise ValueError", "os._exit(3)", "sys.exit(2)", "1"])
def test_what_was_seen_is_kept_however_it_ends(project, run, stand_in, end):
    text = f"import os, sys\nnet = Net()\nfor i in range(5):\n    net(1)\n{end}\n"
    path = project("train.py", NET + text)
    _, found = run("train.py")
    assert found["Net"].calls == 5
    assert found["Net"].path == str(path)
    assert [v.description for v in found["Net"].variants] == ["Net(), x=1"]
    assert found["Net"].command == "train.py"


def test_a_killed_script_loses_the_last_seconds_only(project, run, stand_in):
    text = """\
    import os, signal, time
    import _kernel_lsp_recorder.recorder as recorder  # the test's own way in
    recorder.WRITE_SECONDS = 0.01
    net = Net()
    for i in range(20):
        net(1)
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    project("train.py", NET + textwrap.dedent(text))
    recorded, found = run("train.py")
    assert recorded.code == -signal.SIGKILL
    assert 3 <= found["Net"].calls <= 20


def test_children_disturb_nothing(project, run, stand_in):
    text = """\
    import multiprocessing, os
    net = Net()

    def work(n):
        for _ in range(n):
            net(1)

    if __name__ == "__main__":
        net(1)
        for kind in ("fork", "spawn"):
            child = multiprocessing.get_context(kind).Process(target=work, args=(50,))
            child.start()
            child.join()
            assert child.exitcode == 0
        if os.fork() == 0:
            work(50)
            os._exit(0)
        os.wait()
        net(1)
    """
    project("train.py", NET + textwrap.dedent(text))
    recorded, found = run("train.py")
    assert recorded.code == 0
    assert found["Net"].calls == 2


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_signals_reach_the_script_and_end_the_command_in_the_same_way(
    project, stand_in, tmp_path, number, to_all
):
    """Ctrl-C goes to the whole group, as from a terminal; SIGTERM to the command alone."""
    project("train.py", NET + "import time\nNet()(1)\nopen('up', 'w').close()\ntime.sleep(60)\n")
    environment = os.environ | {"KERNEL_LSP_DATA": str(tmp_path / "data")}
    words = [sys.executable, "-m", "kernel_lsp", "record", "train.py"]
    process = subprocess.Popen(
        words, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if os.path.exists("up"):  # noqa: PTH110
            break
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    if number == signal.SIGINT:  # SIGTERM ends Python without a word; the last snapshot counts
        assert re.search(r"Net: \d+% of the step, 1 call, Net\(\), x=1\n", errors)
        with Store(tmp_path / "data" / "kernel-lsp.db") as store:
            assert store.recordings(str(tmp_path / "project" / "train.py"))["Net"].calls == 1


def test_what_cannot_be_started_is_one_sentence(project):
    project("x.py", "")
    with pytest.raises(SetupError, match="cannot be started"):
        record(parse_command(["/nowhere/python3", "x.py"], ""))
    with pytest.raises(KernelLspError, match=r"There is no missing\.py to run"):
        record(parse_command(["missing.py"], sys.executable))
