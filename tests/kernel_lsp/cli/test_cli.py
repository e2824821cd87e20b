"""The commands as a user or a program calls them: output, files, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_lsp.cli import COMMANDS, main
from search_engine.store.records import Configuration
from search_engine.store.store import Store
from search_engine.verdict import Measurement, Sample, Verdict

SEARCH = """
from pathlib import Path
from search_engine.proposers._base import Branch, Idea
from search_engine.store.store import Store
from search_engine.verdict import Finding, Verdict
run_id, store = arguments[1], Store(Path(arguments[3]))
assert store.claim(run_id, "stub")
store.add_event(run_id, "idea", "round 1: One pass")
store.set_progress(run_id, 1, "checking")
{body}
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"kernel-lsp {command}" in capsys.readouterr().out


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_the_command_line_imports_no_torch() -> None:
    code = (
        "import sys; from kernel_lsp.cli import main\n"
        "try: main(['optimize', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_runs_lists_newest_first(finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    shown = capsys.readouterr().out
    assert finished in shown
    assert "net.py::Net" in shown
    assert main(["runs", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["status"] == "finished"
    assert run["verified"] == 1
    assert run["winner"]["over_compile"] == pytest.approx(1.31)


def test_no_runs_says_how_to_start(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert "kernel-lsp optimize FILE" in capsys.readouterr().out


def test_show(finished: str, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (finished, finished[:8], "last", str(net), f"{net}::Net"):
        assert main(["show", name]) == 0
        shown = capsys.readouterr().out
        assert "One pass" in shown
        assert "over torch.compile" in shown
        assert "race: two writers" in shown
    assert main(["show", finished, "--json", "--sources"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert [k["source"] for k in run["ideas"][0]["kernels"]] == ["// one\n", "// two\n"]
    assert main(["show", finished, "--diff"]) == 0
    assert "+@Net_cuda" in capsys.readouterr().out


def test_show_what_was_tried_of_tune_lines(
    finished: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = Sample(2e-4, 1.9e-4, 2.1e-4, 20)
    with Store() as store:
        kernel = store.run(finished).kernels[1]
        for values, entry in (
            ("64", {"measurement": Measurement("d", sample, sample, {})}),
            ("128", {"glance": Sample(3e-4, 3e-4, 3e-4, 5)}),
        ):
            best = f"// BLOCK {values}\n" if values == "64" else None
            store.add_configuration(
                kernel.id, Configuration({"BLOCK": values}, Verdict(True, "d"), **entry), best
            )
    assert main(["show", finished]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"64 +0.200 ms +← chosen *\n *128 +given up after a first timing of 0.300", shown
    )
    assert main(["show", finished, "--kernel", str(kernel.id)]) == 0
    assert capsys.readouterr().out == "// BLOCK 64\n"
    assert main(["show", finished, "--kernel", str(kernel.id), "--template"]) == 0
    assert capsys.readouterr().out == "// two\n"


@pytest.mark.parametrize("command", ["show", "accept", "reject", "revert", "stop"])
def test_unknown_run(command: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "nonsense"]) == 2
    assert "kernel-lsp runs" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_accept_and_revert_leave_the_file_as_it_was(finished: str, net: Path, mark: bytes) -> None:
    before = mark + net.read_bytes()
    net.write_bytes(before)
    assert main(["accept", finished]) == 0
    assert b"@Net_cuda\nclass Net" in net.read_bytes()
    assert net.read_bytes().startswith(mark)
    assert (net.parent / "net_cuda" / "Net.cu").read_text().endswith("// kernel\n")
    assert main(["accept", finished]) == 2, "accepting twice must not insert twice"
    assert main(["revert", finished]) == 0
    assert net.read_bytes() == before
    assert sorted(p.name for p in net.parent.iterdir()) == ["net.py"]


def test_accept_onto_a_changed_class_is_refused(
    finished: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = net.read_text().replace("relu", "tanh")
    net.write_text(changed)
    assert main(["accept", finished]) == 2
    assert "Net" in capsys.readouterr().err
    assert net.read_text() == changed
    assert not (net.parent / "net_cuda").exists()


def test_accept_leaves_nothing_where_the_file_cannot_be_written(
    finished: str, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernel_lsp.cli import decide
    from search_engine.errors import DeliveryError

    def full(path: Path, text: str) -> None:
        raise DeliveryError("no space left")

    monkeypatch.setattr(decide.files, "write_text", full)
    assert main(["accept", finished]) == 2
    assert not (net.parent / "net_cuda").exists()
    with Store() as store:
        assert store.run(finished).decision == "pending"


def test_reject_touches_nothing(finished: str, net: Path) -> None:
    assert main(["reject", finished, "--json"]) == 0
    assert sorted(p.name for p in net.parent.iterdir()) == ["net.py"]
    assert main(["revert", finished]) == 2


def test_optimize_nothing_faster(
    data: Path, net: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub(
        SEARCH.format(body="store.finish(run_id, 'finished', 'Nothing faster found.')")
    )
    assert main(["optimize", str(net), "--interpreter", stub]) == 1
    shown = capsys.readouterr().out
    assert "round 1: One pass" in shown
    assert "Nothing faster found." in shown


def test_optimize_failed_capture(
    data: Path, net: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub(SEARCH.format(body="store.finish(run_id, 'failed', 'Net needs inputs.')"))
    assert main(["optimize", str(net), "--json", "--interpreter", stub]) == 2
    assert json.loads(capsys.readouterr().out)["message"] == "Net needs inputs."


def test_optimize_with_a_broken_interpreter_ends_and_says_so(
    data: Path, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", str(net), "--interpreter", "/nowhere/python"]) == 2
    assert "/nowhere/python" in capsys.readouterr().err


def test_optimize_with_an_engine_that_dies_at_once_ends_and_says_so(
    data: Path, net: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub("sys.exit('No module named search_engine')")
    assert main(["optimize", str(net), "--interpreter", stub]) == 2
    shown = capsys.readouterr()
    assert "pip install" in shown.out + shown.err
    with Store() as store:
        (run_id,) = store.run_ids()
        assert store.run(run_id).status == "failed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.py"], "cannot be read"),
        (["{net}::Missing"], "Missing"),
        (["{net}", "--rounds", "0"], "--rounds"),
    ],
)
def test_optimize_usage(
    arguments: list[str], words: str, data: Path, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [a.format(net=net) for a in arguments]
    assert main(["optimize", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_verify_passes_options_on_and_shows_the_verdict(
    data: Path, net: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub(
        """
        import json
        verdict = {"accepted": False, "device": "cpu (SIMT)", "seconds": 0.5, "notes": ["n"],
                   "findings": [{"check": "race", "message": " ".join(arguments), "line": 3,
                                 "column": None, "place": "block (0, 0, 0)"}], "accuracy": []}
        print(json.dumps({"verdict": verdict}))
        """
    )
    code = main(["verify", f"{net}::Net", "k.cu", "--device", "cpu", "--interpreter", stub])
    assert code == 1
    shown = capsys.readouterr().out
    assert "race: line 3" in shown
    assert "--class Net" in shown
    assert "--device cpu" in shown


def test_an_engine_error_is_one_sentence(
    data: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub('print(\'{"error": "No compiler: install g++."}\'); sys.exit(2)')
    assert main(["doctor", "--interpreter", stub]) == 2
    assert capsys.readouterr().err == "kernel-lsp: No compiler: install g++.\n"


def test_a_newer_store_is_one_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    data.mkdir()
    with sqlite3.connect(data / "kernel-lsp.db") as db:
        db.execute("PRAGMA user_version = 99")
    assert main(["runs"]) == 2
    assert "newer kernel-lsp" in capsys.readouterr().err


def test_a_damaged_store_is_one_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.mkdir()
    (data / "kernel-lsp.db").write_bytes(b"not a database at all" * 100)
    assert main(["runs"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_syntax_error_is_named_with_its_line(
    data: Path, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net.write_text(net.read_text().replace("def forward(self, x):", "def forward(self, x:"))
    assert main(["optimize", f"{net}::Net"]) == 2
    assert "net.py, line 8" in capsys.readouterr().err


def test_the_outcome_is_said_once(
    data: Path, net: Path, engine_stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = engine_stub(
        SEARCH.format(body="store.finish(run_id, 'finished', 'Nothing faster found.')")
    )
    main(["optimize", str(net), "--interpreter", stub])
    assert capsys.readouterr().out.count("Nothing faster found.") == 1


def test_a_diff_says_where_a_line_has_no_end(finished: str, net: Path) -> None:
    from kernel_lsp.cli.decide import delivery_diff

    net.write_text(net.read_text().rstrip("\n"))
    with Store() as store:
        assert "\\ No newline at end of file\n" in delivery_diff(store.run(finished))


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--kernel-timeout", "-1", "at least 0.1"), ("--minutes", "nan", "a finite number")],
)
def test_a_number_out_of_range_is_refused(
    data: Path, net: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    assert main(["optimize", str(net), option, value]) == 2
    assert f"{option} must be {says}, not {value}" in capsys.readouterr().err
