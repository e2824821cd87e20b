"""``kernel-lsp record`` as a command; what it records is tested with the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_lsp.cli import main

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


def test_usage(script, data, capsys) -> None:
    assert main(["record"]) == 2
    assert "kernel-lsp record -- python train.py" in capsys.readouterr().err
    assert main(["record", "missing.py"]) == 2
    assert "There is no missing.py to run" in capsys.readouterr().err
