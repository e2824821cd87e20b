"""The main job in a real Neovim with the configuration of docs/editors.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NET = '''\
"""A file of the user's."""

import torch
from torch import nn


# kernel-lsp: x=float32[64, 256]
class Net(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.relu(x), -1)
'''

# The accepted file, imported as the user's program would: on a CPU the original forward runs.
PROGRAM = """
import torch, net
x = torch.randn(64, 256)
with torch.no_grad():
    torch.testing.assert_close(net.Net()(x), torch.softmax(torch.relu(x), -1))
print(net.Net_cuda.__module__)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "net.py"
    path.parent.mkdir()
    (path.parent / "pyproject.toml").touch()
    path.write_text(NET)
    return path


def test_click_watch_accept_revert(neovim, net):
    size = {"rounds": 1, "ideas": 1, "branches": 1, "device": "cpu"}
    editor = neovim(net, search=size)
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys("/class Net<CR>gra", choose="Optimize with CUDA kernel")
    editor.until_lens("Stop")
    editor.until(lambda: editor.lua("vim.g.lsp_progress or ''"), "progress in the status line")
    editor.until_lens("Show diff | Accept | Reject", seconds=120)
    editor.until(lambda: editor.lua("vim.g.lsp_progress") == "", "the progress's end")

    editor.keys("K")  # the cursor is on the keyword
    editor.until(lambda: "Round 1" in editor.lua("floating()"), "the hover")
    text = editor.lua("floating()")
    assert "(estimate, H200)" in text
    assert "of the limit" in text
    assert not (net.parent / "net_cuda").exists(), "nothing on disk before Accept"
    editor.keys("<Esc>")

    editor.keys("gK", choose="Accept")
    editor.until_lens("Show kernel | Revert")
    assert (
        editor.text.replace("from net_cuda.Net import Net_cuda\n", "", 1).replace(
            "@Net_cuda\n", "", 1
        )
        == NET
    )
    editor.keys(":write<CR>")
    editor.until(lambda: "@Net_cuda" in net.read_text(), "the file on disk")
    assert sorted(path.name for path in (net.parent / "net_cuda").iterdir()) == ["Net.cu", "Net.py"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=net.parent, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "net_cuda.Net", done.stderr

    editor.keys("gg/^class Net<CR>gK", choose="Revert")
    editor.until(lambda: editor.text == NET, "the text as it was")
    editor.until_lens("Optimize with CUDA kernel")
    assert not (net.parent / "net_cuda" / "Net.cu").exists()
    assert editor.lua("messages") == []


def test_a_search_outlives_neovim(neovim, net, stub, tmp_path):
    editor = neovim(net, interpreter=stub)
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys("/class Net<CR>gK", choose="")
    # Three rounds: the settings that docs/editors.md gives as an example.
    editor.until_lens("round 2/3 · best ×1.31 over torch.compile | Stop")
    editor.close()

    again = neovim(net, interpreter=stub)
    again.until_lens("round 2/3", "Stop")
    (tmp_path / "data" / "release").touch()
    again.until_lens("×1.31 over torch.compile, ×31.6 over eager | Show diff | Accept | Reject")
    assert len((tmp_path / "data" / "started.txt").read_text().split()) == 1
    # Typing on the class's line wipes its lens; leaving insert mode brings it back.
    again.keys("/class Net<CR>A  # mine<Esc>")
    again.until(lambda: "# mine" in again.text, "the typed text")
    again.until_lens("Accept")
    again.keys("gK", choose="Accept")
    again.until_lens("Show kernel | Revert")
    again.until(lambda: again.lua("shown('inlayhint')") != [], "the inlay hint")
    assert again.lua("shown('inlayhint')")[0].strip() == "×1.31 over torch.compile"
    again.keys("gg/^class Net<CR>gK", choose="Reject")  # not on offer any more
    again.until(lambda: again.lua("vim.g.missing"), "a menu without Reject")
    again.keys("u:wall<CR>")  # Accept is one undo step
    again.until(lambda: "Net_cuda" not in again.text, "undo")
    again.until_lens("Accept", "Reject")
    again.keys("/^class Net<CR>gK", choose="Reject")
    again.until_lens("Optimize with CUDA kernel")
    assert not (net.parent / "net_cuda").exists()
