"""Command lines taken apart as Python would."""

import sys

import pytest

from search_engine.errors import KernelLspError
from search_engine.record.command import Command, parse_command


def parsed(line):
    return parse_command(line.split(), "/default/python")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python train.py --lr 1", ("python", (), "script", "train.py", ("--lr", "1"))),
        ("/opt/x/python3.12 train.py", ("/opt/x/python3.12", (), "script", "train.py", ())),
        ("python -u -X dev train.py -m", ("python", ("-u", "-X", "dev"), "script", "train.py",
         ("-m",))),
        ("python -Wignore -OO t.py", ("python", ("-Wignore", "-OO"), "script", "t.py", ())),
        ("python -m pkg.train -c 1", ("python", (), "module", "pkg.train", ("-c", "1"))),
        ("python -um pkg x", ("python", ("-u",), "module", "pkg", ("x",))),
        ("python -mpkg", ("python", (), "module", "pkg", ())),
        ("python -c pass a", ("python", (), "command", "pass", ("a",))),
        ("python --check-hash-based-pycs never t.py",
         ("python", ("--check-hash-based-pycs", "never"), "script", "t.py", ())),
        ("train.py --lr 1", ("/default/python", (), "script", "train.py", ("--lr", "1"))),
        ("-m pkg", ("/default/python", (), "module", "pkg", ())),
    ],
)  # fmt: skip
def test_command_lines(line, expected):
    assert parsed(line) == Command(*expected)


@pytest.mark.parametrize(
    "line", ["", "python", "python -u", "python -", "python -m", "ls -l", "no-x"]
)
def test_what_is_no_python_command_says_what_to_give(line):
    with pytest.raises(KernelLspError, match=r"kernel-lsp record -- python train\.py"):
        parsed(line)


def test_a_console_script_runs_under_its_own_python(tmp_path, monkeypatch):
    script = tmp_path / "fit"
    script.write_text(f"#!{sys.executable}\nprint()\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parsed("fit --fast") == Command(sys.executable, (), "script", str(script), ("--fast",))


def test_the_name_keeps_arguments_to_itself():
    assert parsed("python src/train.py --token secret").name == "train.py"
    assert parsed("python -m pkg.train --token secret").name == "-m pkg.train"
    assert parsed("python -c print('secret')").name == "-c …"
