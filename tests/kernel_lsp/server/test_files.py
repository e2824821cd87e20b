"""Files as users have them: odd line ends, odd places, gone, or on a disk that is full."""

from __future__ import annotations

import asyncio
import resource

import pytest
from lsprotocol import types as lsp
from pytest_lsp import client_capabilities

from kernel_lsp.offers import OPTIMIZE

TWO = """\
import torch
from torch import nn


# kernel-lsp: x=float32[64, 256]
class One(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)


# kernel-lsp: x=float32[64, 256]
class Two(nn.Module):
    def forward(self, x):
        return torch.relu(x)
"""


async def click(editor, qualname: str, title: str):
    """Run the lens of one class of several."""
    for lens in await editor.lenses():
        if lens.command.title == title and lens.command.arguments[0]["qualname"] == qualname:
            return await editor.execute(lens.command.command, *lens.command.arguments)
    pytest.fail(f"{qualname} has no lens {title}: {await editor.titles()}")


@pytest.mark.parametrize("client", ["vscode", "neovim"])
async def test_two_classes_reverted_in_the_other_order(start, net, interpreter, capable, client):
    net.write_text(TWO)
    capabilities = capable if client == "vscode" else client_capabilities("neovim")
    editor = await start(interpreter("offer"), capabilities)
    await editor.open(net)
    for name in ("One", "Two"):
        await click(editor, name, "Optimize with CUDA kernel")

        async def there(name=name) -> bool:
            return any(
                lens.command.title == "Accept" and lens.command.arguments[0]["qualname"] == name
                for lens in await editor.lenses()
            )

        await editor.until(there, f"Accept of {name}")
        await click(editor, name, "Accept")
    assert editor.notices == []
    assert editor.text.count("_cuda") == 6  # two imports of two names each, two decorators
    assert len(list((net.parent / "net_cuda").iterdir())) == 4
    await click(editor, "One", "Revert")
    assert "@Two_cuda" in editor.text
    assert "One_cuda" not in editor.text
    assert sorted(path.name for path in (net.parent / "net_cuda").iterdir()) == ["Two.cu", "Two.py"]
    await click(editor, "Two", "Revert")
    assert editor.notices == []
    assert editor.text == TWO
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]


@pytest.mark.parametrize("spoil", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t])
async def test_line_ends_and_byte_order_mark_stay(start, net, interpreter, spoil):
    text = spoil(net.read_text())
    editor = await start(interpreter("offer"))
    await editor.open(net, text)
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    await editor.click("Accept")
    assert editor.notices == []
    plain = "from net_cuda.Net import Net_cuda\n"
    assert spoil(plain).lstrip("\ufeff") in editor.text
    assert editor.text.count("\r\n") in (0, editor.text.count("\n"))
    await editor.click("Revert")
    assert editor.notices == []
    assert editor.text == text


async def test_a_file_deleted_while_it_is_open(start, net, interpreter):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    net.unlink()
    net.parent.rmdir()
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    await editor.click("Accept")
    assert editor.notices == []
    assert "@Net_cuda" in editor.text
    assert (net.parent / "net_cuda" / "Net.py").exists(), "as saving the buffer will be"


@pytest.mark.parametrize(
    "uri", ["untitled:Untitled-1", "vscode-notebook-cell:/home/user/net.ipynb#W0sZmlsZQ"]
)
async def test_text_that_is_no_file_yet(start, net, uri):
    editor = await start()
    item = lsp.TextDocumentItem(uri, "python", 1, net.read_text())
    editor.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
    document = lsp.TextDocumentIdentifier(uri)
    assert not await editor.client.text_document_code_lens_async(lsp.CodeLensParams(document))
    await editor.execute(OPTIMIZE, {"uri": uri, "qualname": "Net"})
    (notice,) = editor.notices
    assert notice == "Open the file as a Python file on disk first: save it, then try again."


async def test_an_editor_that_fails_on_the_edit(start, net, interpreter):
    """Neovim answers with an error where it cannot make a folder."""
    editor = await start(interpreter("offer"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")

    def takes(change):
        raise PermissionError("E739: Cannot create directory net_cuda: permission denied")

    editor.takes = takes
    await editor.click("Accept")
    (notice,) = editor.notices
    assert "did not apply the edit" in notice
    assert "permission denied" in notice
    assert "bug" not in notice
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]
    assert "Accept" in await editor.titles()


# For the server's process: while the file FULL is there, no delivered file can be written.
FULL = """\
import errno, os, sys
from pathlib import Path

def full(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
        return
    writes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes and "_cuda" in os.fspath(arguments[0]) and Path(os.environ["FULL"]).exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(arguments[0]))

sys.addaudithook(full)
"""


async def test_a_full_disk_at_accept(start, net, interpreter, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FULL)
    capabilities = client_capabilities("neovim")
    environment = {"PYTHONPATH": str(site), "FULL": str(tmp_path / "full")}
    editor = await start(interpreter("offer"), capabilities, environment=environment)
    editor.saves = False
    await editor.open(net)
    before = editor.text
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    (tmp_path / "full").touch()
    await editor.click("Accept")
    (notice,) = editor.notices
    assert "full" in notice
    assert editor.text == before
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]
    (tmp_path / "full").unlink()
    await editor.click("Accept")
    assert "@Net_cuda" in editor.text


async def test_a_full_disk_under_the_store(start, net, interpreter, data, tmp_path):
    """The database cannot grow: one sentence, no search, and no dead server."""
    editor = await start(interpreter("offer"))
    assert editor.client._server is not None
    await editor.open(net)
    limits = resource.prlimit(editor.client._server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(editor.client._server.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    assert await editor.click("Optimize with CUDA kernel") is None
    await asyncio.sleep(1.0)  # the watcher meets the same disk
    (notice,) = set(editor.notices)
    assert len(editor.notices) == 1, editor.notices
    assert "free some space on its disk" in notice
    resource.prlimit(editor.client._server.pid, resource.RLIMIT_FSIZE, limits)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
