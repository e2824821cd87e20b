"""The main job in a real Neovim with the runtime files, set up as docs/editors.md says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

RUNTIME = Path(__file__).resolve().parents[2] / "editors" / "nvim"


def test_click_watch_accept_revert(neovim, net, program):
    before = net.read_text()
    size = {"rounds": 1, "ideas": 1, "branches": 1, "device": "cpu"}
    editor = neovim(net, search=size)
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys("/class Net<CR>gra", choose="Optimize with CUDA kernel")
    editor.until_lens("Stop")
    editor.until(lambda: "Net · " in editor.status, "progress in the status line")
    cut = "require('kernel_lsp').status(9)"
    editor.until(lambda: re.fullmatch("Net · ..…", editor.lua(cut)), "progress cut to fit")
    editor.until_lens("Show diff | Accept | Reject", seconds=240)
    editor.until(lambda: "Net · " not in editor.status, "the progress's end")

    editor.keys("K")  # the cursor is on the keyword
    editor.until(lambda: "Round 1" in editor.lua("floating()"), "the hover")
    text = editor.lua("floating()")
    assert "(estimate, H200)" in text
    assert "of the limit" in text
    assert not (net.parent / "net_cuda").exists(), "nothing on disk before Accept"
    editor.keys("<Esc>")

    editor.keys(":KernelDiff<CR>")
    editor.until(lambda: len(editor.windows) == 3, "the diff")
    assert sorted(editor.windows) == ["Net.cu", "net.py", "net.py"]
    assert "@Net_cuda" in editor.text
    assert editor.lua("vim.wo.diff")
    assert editor.lua("#vim.lsp.get_clients({ bufnr = 0 })") == 0, "a copy is nobody's module"
    editor.keys("q")
    editor.until(lambda: editor.windows == ["net.py"], "the window as it was")
    editor.until_lens("Show diff | Accept | Reject")  # running one wiped them

    editor.keys(":KernelAccept<CR>")
    editor.until_lens("Show kernel | Revert")
    lines = "from net_cuda.Net import Net_cuda\n", "@Net_cuda\n"
    assert editor.text.replace(lines[0], "", 1).replace(lines[1], "", 1) == before
    editor.keys(":write<CR>")
    editor.until(lambda: "@Net_cuda" in net.read_text(), "the file on disk")
    assert {"Net.cu", "Net.py"} <= {path.name for path in (net.parent / "net_cuda").iterdir()}
    assert program() == "net_cuda.Net"

    editor.keys("gg/^class Net<CR>:KernelRevert<CR>")
    editor.until(lambda: editor.text == before, "the text as it was")
    editor.until_lens("Optimize with CUDA kernel")
    assert not (net.parent / "net_cuda" / "Net.cu").exists()
    assert editor.lua("messages") == []


def test_a_search_outlives_neovim(neovim, net, stub, tmp_path):
    size = {"rounds": 3}
    editor = neovim(net, interpreter=stub, search=size)
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys("/class Net<CR>gK")
    editor.until_lens("round 2/3 · best ×1.31 over torch.compile | Stop")
    editor.close()

    again = neovim(net, interpreter=stub, search=size)
    again.until_lens("round 2/3", "Stop")
    (tmp_path / "data" / "release").touch()
    again.until_lens("×1.31 over torch.compile, ×31.6 over eager | Show diff | Accept | Reject")
    assert len((tmp_path / "data" / "started.txt").read_text().split()) == 1
    # Typing on the class's line wipes its lens; leaving insert mode brings it back.
    again.keys("/class Net<CR>A  # mine<Esc>")
    again.until(lambda: "# mine" in again.text, "the typed text")
    again.until_lens("Accept")
    again.keys("gK", choose="Show diff")
    again.until(lambda: len(again.windows) == 3, "the diff")
    again.keys("gt")  # back to the file, whose lens decides
    again.until_lens("Accept")
    again.keys("gK", choose="Accept")
    again.until_lens("Show kernel | Revert")
    assert again.lua("#vim.api.nvim_list_tabpages()") == 1, "decided: its diff is closed"
    again.until(lambda: again.lua("shown('inlayhint')") != [], "the inlay hint")
    assert again.lua("shown('inlayhint')")[0].strip() == "×1.31 over torch.compile"
    again.keys("gg/^class Net<CR>gK", choose="Reject")  # not on offer any more
    again.until(lambda: again.lua("vim.g.missing"), "a menu without Reject")
    again.keys("u:wall<CR>")  # Accept is one undo step
    again.until(lambda: "Net_cuda" not in again.text, "undo")
    again.until_lens("Accept", "Reject")
    again.keys("/^class Net<CR>:KernelReject<CR>")
    again.until_lens("Optimize with CUDA kernel")
    assert not (net.parent / "net_cuda").exists()


def test_ideas_stop_and_the_list_of_searches(neovim, net, stub):
    editor = neovim(net, interpreter=stub)
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys("/class Net<CR>:KernelOptimize<CR>")
    editor.until_lens("round 2/5")
    editor.keys(":KernelIdeas<CR>")
    editor.until(lambda: sorted(editor.windows) == ["Net.md", "net.py"], "the page")
    assert "One warp per row" in editor.text
    assert not editor.lua("vim.bo.modifiable")
    editor.keys("q:KernelShow<CR>")
    editor.until(lambda: "Net.cu" in editor.windows, "the kernel")
    assert editor.lua("vim.bo.filetype") == "cuda"
    editor.keys("q:KernelStop<CR>")
    editor.until_lens("Search again")

    editor.keys(":enew<CR>:edit other.py<CR>")
    editor.until(lambda: editor.lua("vim.fn.exists(':KernelRuns')") == 2, "the command")
    editor.keys(":KernelRuns<CR>", choose="net.py::Net  stopped")
    editor.until(lambda: sorted(editor.windows) == ["Net.md", "net.py"], "the chosen search")
    assert "One warp per row" in editor.text


def test_opting_out_and_health(neovim, net, tmp_path):
    editor = neovim(net, before="vim.g.kernel_lsp_enabled = false")
    assert not editor.lua("vim.lsp.is_enabled('kernel_lsp')")
    editor.keys(":lua vim.lsp.enable('kernel_lsp')<CR>")
    editor.until_lens("Optimize with CUDA kernel")
    editor.keys(":checkhealth kernel_lsp<CR>")
    editor.until(lambda: "torch" in editor.text, "the doctor's report")
    assert "It runs now." in editor.text
    assert "ERROR" not in editor.text


def test_the_help_has_its_tags(tmp_path):
    text = (RUNTIME / "doc" / "kernel_lsp.txt").read_text()
    assert max(map(len, text.splitlines())) <= 79
    (tmp_path / "kernel_lsp.txt").write_text(text)
    from neovim import executable

    command = executable()
    assert command is not None
    subprocess.run(
        [command, "--headless", "--clean", "-c", f"helptags {tmp_path}", "-c", "q"], check=True
    )
    assert (tmp_path / "tags").read_text() == (RUNTIME / "doc" / "tags").read_text()
    lua = (RUNTIME / "lua" / "kernel_lsp" / "init.lua").read_text()
    for name in ["KernelOptimize", "KernelDiff", "KernelAccept", "KernelReject", "KernelRevert"]:
        assert f"*:{name}*" in text
        assert name in lua
