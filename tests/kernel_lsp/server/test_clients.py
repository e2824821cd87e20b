"""Editors that can less than VS Code, or that take only a part of an edit."""

from __future__ import annotations

import pytest
from lsprotocol import types as lsp
from pytest_lsp import client_capabilities

from kernel_lsp.offers import ACCEPT, INSERT_INPUTS, OPTIMIZE
from search_engine.store.store import Store


async def offered(start, net, interpreter, capabilities=None, **settings):
    editor = await start(interpreter("offer"), capabilities, settings)
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    return editor


async def test_neovim_gets_files_on_disk(start, net, interpreter):
    """Neovim leaves text of created files in unsaved buffers, so the server writes it."""
    editor = await offered(start, net, interpreter, client_capabilities("neovim"))
    editor.saves = False
    before = editor.text
    await editor.click("Accept")
    assert editor.notices == []
    (applied,) = editor.edits
    kinds = [type(change).__name__ for change in applied.edit.document_changes]
    assert kinds == ["CreateFile", "CreateFile", "TextDocumentEdit"]
    assert applied.edit.change_annotations is None
    assert "def Net_cuda" in (net.parent / "net_cuda" / "Net.py").read_text()
    assert "@Net_cuda" in editor.text
    await editor.click("Revert")
    assert editor.text == before
    assert not (net.parent / "net_cuda").exists()


async def test_an_editor_without_resource_operations(start, net, interpreter):
    capabilities = lsp.ClientCapabilities(
        workspace=lsp.WorkspaceClientCapabilities(apply_edit=True)
    )
    editor = await offered(start, net, interpreter, capabilities)
    before = editor.text
    (action, *_) = await editor.actions(editor.line("class Net"))
    assert isinstance(action, lsp.Command)
    await editor.click("Accept")
    (applied,) = editor.edits
    assert applied.edit.document_changes is None
    assert set(applied.edit.changes) == {net.as_uri()}
    assert (net.parent / "net_cuda" / "Net.cu").exists()
    assert "**" not in await editor.hover(editor.line("class Net"), 7)
    await editor.click("Revert")
    assert editor.text == before
    assert not (net.parent / "net_cuda").exists()
    assert editor.refreshes == []
    assert editor.client.progress_reports == {}


async def test_an_editor_without_edits_is_told_of_the_command_line(start, net, interpreter):
    editor = await offered(start, net, interpreter, lsp.ClientCapabilities())
    await editor.click("Accept")
    assert "kernel-lsp accept" in editor.notices[0]
    await editor.click("Show diff")
    assert ".diff" in editor.notices[1]


async def test_created_text_that_is_not_saved_is_written(start, net, interpreter):
    editor = await offered(start, net, interpreter)
    editor.saves = False
    await editor.click("Accept")
    assert editor.notices == []
    assert "def Net_cuda" in (net.parent / "net_cuda" / "Net.py").read_text()


@pytest.mark.parametrize("left_out", ["files", "lines"])
async def test_a_partly_taken_edit_is_taken_back(start, net, interpreter, data, left_out):
    editor = await offered(start, net, interpreter, previewAccept=True)
    before = editor.text

    def takes(change):
        own = isinstance(change, lsp.TextDocumentEdit)
        own = own and change.text_document.uri == net.as_uri()
        return own if left_out == "files" else not own

    editor.takes = takes
    await editor.click("Accept")
    (annotation, *_) = editor.edits[0].edit.change_annotations.values()
    assert annotation.needs_confirmation
    assert len(editor.notices) == 1
    assert "taken out again" in editor.notices[0]
    editor.takes = lambda change: True
    assert editor.text == before
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]
    assert "Accept" in await editor.titles()
    with Store(data / "kernel-lsp.db") as store:
        assert store.latest(str(net), "Net").decision == "pending"


async def test_a_refused_edit_leaves_nothing(start, net, interpreter):
    editor = await offered(start, net, interpreter)
    editor.applied = False
    await editor.click("Accept")
    assert len(editor.notices) == 1
    assert "did not apply the edit" in editor.notices[0]
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]
    editor.applied = True
    await editor.click("Accept")
    assert "@Net_cuda" in editor.text


async def test_a_file_in_the_way_is_never_overwritten(start, net, interpreter):
    editor = await offered(start, net, interpreter)
    mine = net.parent / "net_cuda" / "Net.py"
    mine.parent.mkdir()
    mine.write_text("mine = 1\n")
    await editor.click("Accept")
    assert "is in the way" in editor.notices[0]
    assert editor.edits == []
    assert mine.read_text() == "mine = 1\n"


async def test_no_write_access_to_the_project(start, net, interpreter):
    capabilities = lsp.ClientCapabilities(
        workspace=lsp.WorkspaceClientCapabilities(apply_edit=True)
    )
    editor = await offered(start, net, interpreter, capabilities)
    (net.parent / "net_cuda").write_text("a file where the folder goes")
    await editor.click("Accept")
    assert len(editor.notices) == 1
    assert "@Net_cuda" not in editor.text


async def test_an_undone_accept_can_be_accepted_or_rejected_again(start, net, interpreter):
    editor = await offered(start, net, interpreter)
    before = editor.text
    await editor.click("Accept")
    editor.change(before)
    assert "Accept" in await editor.titles()
    await editor.click("Accept")
    assert "Revert" in await editor.titles()
    editor.change(before)
    await editor.click("Reject")
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]


async def test_edited_kernel_files_survive_revert(start, net, interpreter):
    editor = await offered(start, net, interpreter)
    await editor.click("Accept")
    kernel = net.parent / "net_cuda" / "Net.cu"
    kernel.write_text(kernel.read_text() + "// my own line\n")
    await editor.click("Revert")
    assert "@Net_cuda" not in editor.text
    assert "my own line" in kernel.read_text()
    assert not kernel.with_suffix(".py").exists()
    assert "stays" in editor.notices[0]


async def test_a_second_kernel_replaces_the_first(start, net, interpreter, data):
    editor = await offered(start, net, interpreter)
    await editor.click("Accept")
    changed = editor.text.replace("x, -1", "x, 0")
    editor.change(changed)
    second = (await editor.click("Search again"))["run"]
    await editor.until_lens("Accept")
    with Store(data / "kernel-lsp.db") as store:
        assert "@Net_cuda" not in store.run(second).request.text
    await editor.click("Accept")
    assert editor.text == changed
    assert second in (net.parent / "net_cuda" / "Net.cu").read_text()
    await editor.click("Revert")
    assert "@Net_cuda" not in editor.text
    assert not (net.parent / "net_cuda").exists()


UNICODE = """\
import torch.nn as nn
class Größe𝒳(nn.Module):  # 𝒳𝒳 kernel
    def forward(self, x): return x
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_positions_in_the_clients_encoding(start, net, interpreter, capable, encoding):
    capabilities = capable
    capabilities.general = lsp.GeneralClientCapabilities(position_encodings=[encoding])
    editor = await start(interpreter("offer"), capabilities)
    await editor.open(net, UNICODE.replace("class", "# kernel-lsp: x=float32[8]\nclass"))
    (lens,) = await editor.lenses()
    units = {"utf-8": len("Größe𝒳".encode()), "utf-16": 7, "utf-32": 6}[encoding]
    assert lens.range.start == lsp.Position(2, 6)
    assert lens.range.end == lsp.Position(2, 6 + units)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    assert await editor.hover(2, 6 + units)
    assert not await editor.hover(2, 6 + units + 3)
    await editor.click("Accept")
    assert "@GrößeX_cuda\nclass Größe𝒳" in editor.text
    (hint,) = await editor.hints()
    line = editor.text.splitlines()[hint.position.line]
    full = {"utf-8": len(line.encode()), "utf-16": len(line.encode("utf-16-le")) // 2}
    assert hint.position.character == full.get(encoding, len(line))


async def test_inputs_are_asked_for_and_inserted(start, net, interpreter):
    editor = await start(interpreter("offer"))
    text = net.read_text().replace("# kernel-lsp: x=float32[64, 256]\n", "")
    await editor.open(net, text)
    await editor.click("Optimize with CUDA kernel")
    assert "Describe inputs" in editor.notices[0]
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    actions = await editor.actions(editor.line("class Net"))
    describe = next(a for a in actions if a.title == "Describe inputs for kernel-lsp")
    await editor.execute(INSERT_INPUTS, {"uri": net.as_uri(), "qualname": "Net"})
    assert "# kernel-lsp: Net" in editor.text.splitlines()[editor.line("class Net") - 1]
    (change,) = describe.edit.document_changes
    assert editor.text == editor._edited(text, change.edits)
    titles = [a.title for a in await editor.actions(editor.line("class Net"))]
    assert "Describe inputs for kernel-lsp" not in titles


async def test_commands_take_a_position_and_refuse_nonsense(start, net, interpreter):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    assert await editor.execute(OPTIMIZE) is None
    assert await editor.execute(ACCEPT, {"uri": net.as_uri(), "qualname": "Net"}) is None
    assert await editor.execute(OPTIMIZE, {"uri": net.as_uri(), "qualname": "Other"}) is None
    assert await editor.execute(OPTIMIZE, {"uri": "file:///nowhere.py"}) is None
    assert len(editor.notices) == 4
    assert all(len(notice) < 200 and notice.endswith(".") for notice in editor.notices)
    position = {"line": editor.line("return torch"), "character": 3}
    assert (await editor.execute(OPTIMIZE, {"uri": net.as_uri(), "position": position}))["run"]
