"""docs/lsp-extensions.md says what the code does."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

from kernel_lsp.features import commands
from kernel_lsp.offers import COMMANDS
from kernel_lsp.server import create_server
from kernel_lsp.settings import schema

PAGE = (Path(__file__).parents[2] / "docs" / "lsp-extensions.md").read_text()
SECTIONS = dict(
    re.findall(r"^### `(kernelLsp\.\w+)`\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
)


def answer_keys(function: object) -> set[str]:
    """The keys of the dictionary that a command returns."""
    tree = ast.parse(inspect.getsource(function))  # type: ignore[arg-type]
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return)]
    found = [value for value in returned if isinstance(value, ast.Dict)]
    return {key.value for value in found for key in value.keys if isinstance(key, ast.Constant)}


def test_every_command_is_documented_and_registered() -> None:
    server = create_server()
    assert set(SECTIONS) == set(COMMANDS) == set(commands.COMMANDS)
    assert set(server.protocol.fm.commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_answers(name: str) -> None:
    documented = set(re.findall(r'"(\w+)":', SECTIONS[name]))
    assert documented == answer_keys(commands.COMMANDS[name])
    assert documented


def test_arguments() -> None:
    from kernel_lsp.features import target

    rows = re.findall(r"^\| `(\w+)` \| \w", PAGE, re.MULTILINE)
    source = inspect.getsource(target)
    read = set(re.findall(r'argument(?:\.get\(|\[)"(\w+)"', source))
    assert set(rows) == read


def test_settings() -> None:
    rows = re.findall(r"^\| `(kernel-lsp\.[\w.]+)` \| `(.*)` \| (.*) \|$", PAGE, re.MULTILINE)
    documented = {key: (json.loads(default), text) for key, default, text in rows}
    assert documented == {k: (v["default"], v["description"]) for k, v in schema().items()}


def test_standard_requests() -> None:
    server = create_server()
    served = PAGE.split("Served:")[1].split("Sent,")[0]
    for method in re.findall(r"`((?:textDocument|workspace)/\w+)`", served):
        assert method in {**server.protocol.fm.features, **server.protocol.fm.builtin_features}
    offered = [m for m in server.protocol.fm.features if re.match(r"textDocument/(?!did)", m)]
    assert all(f"`{method}`" in served for method in offered)


def test_the_experimental_capability() -> None:
    from lsprotocol import types as lsp

    from kernel_lsp.capabilities import Capabilities

    assert "`experimental.kernelLsp.showDiff: true`" in PAGE
    client = lsp.ClientCapabilities(experimental={"kernelLsp": {"showDiff": True}})
    assert Capabilities.of(client).opens_diffs
    assert not Capabilities.of(lsp.ClientCapabilities()).opens_diffs
