"""The main job in a real VS Code: code-server with the packaged extension, in Chromium."""

from __future__ import annotations

import sys

from install import PYTHON_VSIX
from playwright.sync_api import expect

SMALL = {
    "search.rounds": 1, "search.ideas": 1, "search.branches": 1, "search.device": "cpu",
}  # fmt: skip


def test_click_watch_accept_revert(vscode, net, program):
    before = net.read_text()
    environment = net.parent / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (environment / "python").chmod(0o755)
    with vscode(net.parent, **SMALL) as editor:
        editor.open(net.name)
        editor.until_lens("Optimize with CUDA kernel")
        editor.picture("lens")
        editor.click_lens("Optimize with CUDA kernel")
        editor.until_lens("Stop")
        editor.until(lambda: editor.status.startswith("Net · "), "the status item")
        editor.picture("running")
        editor.until_lens("Show diff | Accept | Reject", seconds=240)
        editor.until(lambda: editor.status == "", "the status item's end")
        assert not (net.parent / "net_cuda").exists(), "nothing on disk before Accept"

        hover = editor.hover("Net")
        expect(hover).to_contain_text("(estimate, H200)")
        expect(hover).to_contain_text("of the limit")
        expect(hover).to_contain_text("Round 1")
        editor.picture("hover")

        editor.click_lens("Show diff")
        diff = editor.page.locator(".multiDiffEditor")
        expect(diff).to_contain_text("@Net_cuda")
        expect(diff.locator(".multiDiffEntry", has_text="Net.cu")).to_contain_text("net_cuda")
        editor.picture("diff")

        editor.command("Kernel: Accept")
        editor.until_lens("Show kernel | Revert")
        editor.until(lambda: "@Net_cuda" in net.read_text(), "the saved file")
        assert {"Net.cu", "Net.py"} <= {path.name for path in (net.parent / "net_cuda").iterdir()}
        expect(diff).to_have_count(0)  # decided: its tab is closed
        editor.picture("accepted")
        assert program() == "net_cuda.Net"

        editor.click_lens("Revert")
        editor.until(lambda: net.read_text() == before, "the file as it was")
        editor.until_lens("Optimize with CUDA kernel")
        assert not (net.parent / "net_cuda" / "Net.cu").exists()
        editor.picture("reverted")
        assert editor.notifications == []


def test_missing_package_another_interpreter_and_the_list(vscode, net, stub, bare, tmp_path):
    with vscode(net.parent, interpreter=bare) as editor:
        editor.open(net.name)
        expected = f"kernel-lsp is not installed in {bare}, and neither is torch"
        editor.until(lambda: expected in " ".join(editor.notifications), "the offer to install")
        editor.picture("not-installed")
        assert len(editor.notifications) == 1
        assert editor.lens == ""

        editor.set(interpreter=stub)  # no reload
        editor.until_lens("Optimize with CUDA kernel")
        editor.click_lens("Optimize with CUDA kernel")
        editor.until_lens("round 2/5 · best ×1.31 over torch.compile", "Stop")
        editor.until(lambda: "round 2/5" in editor.status, "the round in the status bar")
        editor.picture("second-round")
        editor.page.locator(".statusbar-item", has_text="round 2/5").click()
        editor.choose("Show Ideas and Times")
        page = editor.page.frame_locator("iframe.webview").last.frame_locator("#active-frame")
        expect(page.get_by_text("One warp per row").first).to_be_visible()
        editor.picture("ideas-and-times")

        # The search goes on without the server, and the next one finds it.
        editor.open(net.name)
        editor.command("Kernel: Restart Server")
        editor.until(lambda: "round 2/5" in editor.status, "the search after the restart")
        (tmp_path / "data" / "release").touch()
        editor.until_lens("×1.31 over torch.compile, ×31.6 over eager | Show diff | Accept")
        editor.command("Kernel: Show Kernel")
        expect(editor.page.locator(".view-lines")).to_contain_text("// one")
        editor.picture("kernel")

        editor.command("Kernel: Show Searches…")
        row = editor.page.locator(".quick-input-list .monaco-list-row", has_text="Net")
        expect(row).to_contain_text("×1.31 over torch.compile")
        expect(row).to_contain_text("waits for your decision")
        editor.picture("searches")
        row.click()
        expect(page.get_by_text("One warp per row").first).to_be_visible()

        editor.open(net.name)
        editor.click_lens("Reject")
        editor.until_lens("Optimize with CUDA kernel")
        assert not (net.parent / "net_cuda").exists()
        assert "class Net" in net.read_text()


def test_the_interpreter_chosen_in_the_python_extension(vscode, net, bare):
    with vscode(net.parent, others=[PYTHON_VSIX]) as editor:
        editor.set("python", defaultInterpreterPath=bare)
        editor.open(net.name)
        said = f"kernel-lsp is not installed in {bare}"
        editor.until(lambda: said in " ".join(editor.notifications), "the offer to install")
        assert editor.lens == ""
        editor.set("python", defaultInterpreterPath=sys.executable)
        editor.until_lens("Optimize with CUDA kernel")


def test_the_program_of_these_tests_can_tell(program):
    assert program() == "", "no kernel has been accepted"
