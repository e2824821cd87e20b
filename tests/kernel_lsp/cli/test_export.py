"""A run from one machine to another: export, import, then show, accept and resume."""

import json
from pathlib import Path

import pytest

from kernel_lsp.cli import main
from search_engine.store.store import Store


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Go to another machine: another store, another copy of the project."""

    def go(net: Path) -> Path:
        project = tmp_path / "elsewhere"
        project.mkdir()
        (project / "net.py").write_text(net.read_text())
        monkeypatch.setenv("KERNEL_LSP_DATA", str(tmp_path / "other-data"))
        monkeypatch.chdir(project)
        return project

    return go


@pytest.fixture
def exported(finished: str, tmp_path: Path) -> Path:
    path = tmp_path / "run.zip"
    assert main(["export", finished, str(path)]) == 0
    return path


def test_show_accept_and_revert_work_elsewhere(
    finished: str, exported: Path, net: Path, elsewhere, capsys
) -> None:
    project = elsewhere(net)
    capsys.readouterr()
    assert main(["import", str(exported)]) == 0
    shown = capsys.readouterr().out
    assert f"Run {finished} of Net is here now: A faster kernel is verified." in shown
    assert f"kernel-lsp show {finished} --diff" in shown
    assert main(["show", finished]) == 0
    shown = capsys.readouterr().out
    assert "One pass" in shown
    assert "race: two writers" in shown
    before = (project / "net.py").read_bytes()
    assert main(["accept", "last"]) == 0
    assert b"@Net_cuda\nclass Net" in (project / "net.py").read_bytes()
    assert (project / "net_cuda" / "Net.cu").exists()
    assert main(["revert", "last"]) == 0
    assert (project / "net.py").read_bytes() == before
    assert not (net.parent / "net_cuda").exists()


def test_importing_twice_leaves_one_run(finished, exported, net, elsewhere, capsys) -> None:
    project = elsewhere(net)
    assert main(["import", str(exported), "--json"]) == 0
    capsys.readouterr()
    moved = (project / "net.py").rename(project / "moved.py")
    assert main(["import", str(exported), "--path", str(moved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] is False
    with Store() as store:
        assert store.run_ids() == [finished]
        assert store.run(finished).path == str(moved)
        assert len(store.events(finished)) == 1


def test_without_the_module_it_says_what_to_do(exported, net, elsewhere, capsys) -> None:
    (elsewhere(net) / "net.py").unlink()
    assert main(["import", str(exported)]) == 0
    assert "--path MODULE" in capsys.readouterr().out
    assert main(["accept", "last"]) == 2
    assert main(["import", str(exported), "--path", "nowhere.py"]) == 2
    Path("other.py").write_text("class Other: ...\n")
    assert main(["import", str(exported), "--path", "other.py"]) == 2
    assert "no class Net" in capsys.readouterr().err


def test_another_class_of_that_name_is_said(exported, net, elsewhere, capsys) -> None:
    path = elsewhere(net) / "net.py"
    path.write_text(path.read_text().replace("relu", "tanh"))
    assert main(["import", str(exported)]) == 0
    assert "another class than the run's" in capsys.readouterr().out
    assert main(["accept", "last"]) == 2


def test_a_file_in_the_project_is_found_at_its_place(
    finished: str, net: Path, tmp_path: Path, elsewhere, capsys
) -> None:
    (net.parent.parent / "pyproject.toml").touch()
    assert main(["export", finished, str(tmp_path / "run.zip"), "--json"]) == 0
    project = elsewhere(net)
    (project / "project").mkdir()
    module = (project / "net.py").rename(project / "project" / "net.py")
    assert main(["import", str(tmp_path / "run.zip")]) == 0
    with Store() as store:
        assert store.run(finished).path == str(module)


def test_a_resumed_import_runs_the_file_that_is_here(
    finished, exported, net, elsewhere, engine_stub, capsys
) -> None:
    project = elsewhere(net)
    (project / "net.py").write_text("# mine\n" + net.read_text())
    assert main(["import", str(exported)]) == 0
    stub = engine_stub(
        "from pathlib import Path\n"
        "from search_engine.store.store import Store\n"
        "store = Store(Path(arguments[3]))\n"
        "assert store.claim(arguments[1], 'stub')\n"
        "first = store.run(arguments[1]).request.text.splitlines()[0]\n"
        "store.finish(arguments[1], 'finished', f'It ran {first}.')\n"
    )
    assert main(["resume", "last", "--rounds", "1", "--interpreter", stub]) == 1
    assert "It ran # mine." in capsys.readouterr().out


def test_a_file_is_not_overwritten(finished, exported, capsys) -> None:
    before = exported.read_bytes()
    assert main(["export", finished, str(exported)]) == 2
    assert "exists: give another name" in capsys.readouterr().err
    assert exported.read_bytes() == before


def test_the_default_name(finished, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", finished]) == 0
    assert Path(f"Net-{finished}.kernel-lsp.zip").stat().st_size > 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x00" * 100])
def test_what_is_no_run_is_one_sentence(content, data, tmp_path, capsys) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert main(["import", str(path)]) == 2
    assert "export the run again" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "missing.zip")]) == 2
    assert "cannot be read" in capsys.readouterr().err
