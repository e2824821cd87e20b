"""``kernel-lsp record`` as a command; what it records is tested with the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_lsp.cli import main
from search_engine.errors import StoreError
from search_engine.store.store import Store

NOTHING = "kernel-lsp: nothing was recorded: no module class of your own was called."


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(len(sys.argv) - 1)\n")
    return path


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["train.py"], []),
        (["--", "train.py", "--quiet"], ["--quiet"]),
        (["train.py", "--", "--interpreter", "x"], ["--", "--interpreter", "x"]),
    ],
)
def test_options_behind_the_script_are_the_scripts(script, data, capfd, words, seen) -> None:
    assert main(["record", *words]) == len(seen)
    shown = capfd.readouterr()
    assert shown.out == f"{seen}\n"
    assert shown.err == f"{NOTHING}\n"


def test_quiet(script, data, capfd) -> None:
    assert main(["record", "--quiet", "train.py", "x"]) == 1
    assert capfd.readouterr().err == ""
    assert not data.exists(), "nothing recorded makes no store"


def test_a_store_that_cannot_be_written_leaves_the_scripts_exit_code(
    script, data, capfd, monkeypatch
) -> None:
    script.write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        return x\n\n\nNet()(1.0)\nraise SystemExit(3)\n"
    )

    def full(self, recordings):
        raise StoreError("the disk is full.")

    monkeypatch.setattr(Store, "add_recordings", full)
    assert main(["record", "--quiet", "train.py"]) == 3
    assert "nothing was recorded: the disk is full." in capfd.readouterr().err


def test_usage(script, data, capsys) -> None:
    assert main(["record"]) == 2
    assert "kernel-lsp record -- python train.py" in capsys.readouterr().err
    assert main(["record", "missing.py"]) == 2
    assert "There is no missing.py to run" in capsys.readouterr().err
