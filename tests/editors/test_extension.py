"""What the VS Code extension says about itself agrees with the server and the engine."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from kernel_lsp import __version__
from kernel_lsp.offers import COMMANDS, LIST_RUNS

EXTENSION = Path(__file__).parents[2] / "editors" / "vscode"
PACKAGE = json.loads((EXTENSION / "package.json").read_text())
SOURCES = "\n".join(path.read_text() for path in sorted((EXTENSION / "src").glob("*.ts")))


def test_the_settings_are_those_of_the_settings_classes(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSION))
    monkeypatch.delitem(sys.modules, "make_settings", raising=False)
    from make_settings import properties  # type: ignore[import-not-found]

    found = PACKAGE["contributes"]["configuration"]["properties"]
    assert found == properties(), "run editors/vscode/make_settings.py"
    assert all(entry["description"].endswith(".") for entry in found.values())


def test_every_command_of_the_server_is_in_the_palette():
    commands = {entry["command"] for entry in PACKAGE["contributes"]["commands"]}
    assert set(COMMANDS) - {LIST_RUNS} <= commands
    registered = set(re.findall(r"registerCommand\('([\w.]+)'", SOURCES))
    assert commands - set(COMMANDS) <= registered, "commands that nothing answers"
    # Those of the server are there only while it runs.
    shown = {e["command"]: e["when"] for e in PACKAGE["contributes"]["menus"]["commandPalette"]}
    assert all("kernelLsp.running" in shown[name] for name in set(COMMANDS) - {LIST_RUNS})


def test_the_package_is_an_allow_list_of_files_that_are_there():
    built = {"dist/extension.js"}
    assert all((EXTENSION / name).is_file() for name in set(PACKAGE["files"]) - built)
    assert not (EXTENSION / ".vscodeignore").exists(), "vsce takes either, not both"
    assert (EXTENSION / "LICENSE").read_text() == (EXTENSION.parents[1] / "LICENSE").read_text()


def test_nothing_runs_in_untrusted_workspaces():
    assert PACKAGE["capabilities"]["untrustedWorkspaces"]["supported"] is False
    assert "extensionDependencies" not in PACKAGE, "Cursor and VSCodium lack some"


def test_one_version_and_a_changelog_entry():
    assert PACKAGE["version"] == __version__.partition(".dev")[0]
    assert f"## {PACKAGE['version']}" in (EXTENSION / "CHANGELOG.md").read_text()
