"""The main job over stdio: click, watch, accept, revert, reject."""

from __future__ import annotations

import subprocess
import sys

from lsprotocol import types as lsp

from kernel_lsp.offers import LIST_RUNS, STOP
from search_engine.store.store import Store


async def test_click_watch_accept_revert(start, net, interpreter, data):
    editor = await start(interpreter("slow"))
    before = net.read_text()
    await editor.open(net)
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    assert not (data / "kernel-lsp.db").exists(), "looking must not make a store"

    answer = await editor.click("Optimize with CUDA kernel")
    assert answer["run"]
    await editor.until_lens("round 2/5 · best ×1.31 over torch.compile", "Stop")
    await editor.until(lambda: editor.refreshes.count(lsp.WORKSPACE_CODE_LENS_REFRESH) > 0)
    await editor.until(lambda: any(editor.client.progress_reports.values()))
    (reports,) = editor.client.progress_reports.values()
    assert reports[0].title == "Optimizing Net"
    assert reports[0].cancellable

    text = await editor.hover(editor.line("class Net"), 7)
    assert "One warp per row" in text
    outcome = "0.100 ms, ×1.31 over torch.compile, ×31.6 over eager, 80% of the limit"
    assert f"memory access · {outcome}" in " ".join(text.split())
    assert "rejected: race: two writers" in text
    assert "](http" not in text.replace("\\]", ""), "a model's link is no link"
    assert max(map(len, text.splitlines())) <= 80
    assert text == await editor.hover(editor.line("def forward"), 10)
    assert text == await editor.hover(editor.line("class Net"), 0), "the keyword counts too"
    assert await editor.hover(editor.line("class Net"), 12) == "", "nn.Module is not ours"
    assert await editor.hover(editor.line("import torch"), 3) == ""

    (data / "release").touch()
    await editor.until_lens("×1.31 over torch.compile, ×31.6 over eager", "Accept", "Reject")
    await editor.until(lambda: isinstance(reports[-1], lsp.WorkDoneProgressEnd))
    assert await editor.hints() == []
    columns = [lens.range.start.character for lens in await editor.lenses()]
    assert columns == sorted(set(columns)), "Neovim sorts by column, equal ones in no order"

    shown = await editor.click("Show diff")
    assert editor.client.shown_documents[-1].uri == shown["diff"]
    diff = (data / "shown" / shown["run"] / "net.py.diff").read_text()
    assert "+@Net_cuda\n" in diff
    assert "+++ b/net_cuda/Net.cu\n" in diff
    assert not (net.parent / "net_cuda").exists(), "nothing on disk before Accept"

    await editor.click("Accept")
    assert editor.notices == []
    (applied,) = editor.edits
    assert [type(c).__name__ for c in applied.edit.document_changes] == [
        "CreateFile", "TextDocumentEdit", "CreateFile", "TextDocumentEdit", "TextDocumentEdit",
    ]  # fmt: skip
    assert applied.edit.document_changes[-1].text_document.version == 1
    assert set(applied.edit.change_annotations) == {"files", "lines"}
    net.write_text(editor.text)
    program = "import net; print(net.Net.accepted)"
    stubs = "import sys, types; t = types.ModuleType('torch'); t.nn = t; t.Module = object; "
    stubs += "sys.modules['torch'] = t; sys.path.insert(0, '.'); "
    done = subprocess.run(
        [sys.executable, "-c", stubs + program], cwd=net.parent, capture_output=True, text=True
    )
    assert done.stdout.strip() == answer["run"], done.stderr

    assert await editor.titles() == [
        "×1.31 over torch.compile, ×31.6 over eager", "Show kernel", "Revert",
    ]  # fmt: skip
    (hint,) = await editor.hints()
    assert hint.label == "×1.31 over torch.compile"
    assert hint.position == lsp.Position(editor.line("class Net"), len("class Net(nn.Module):"))

    await editor.click("Revert")
    assert editor.notices == []
    assert editor.text == before
    assert not (net.parent / "net_cuda").exists()
    assert "Optimize with CUDA kernel" in await editor.titles()
    with Store(data / "kernel-lsp.db") as store:
        assert store.run(answer["run"]).decision == "reverted"


async def test_reject_leaves_nothing(start, net, interpreter, data):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Reject")
    await editor.click("Reject")
    assert await editor.titles() == [
        "eager 3.16 ms · limit 80.0 µs · headroom ×39.5", "Optimize with CUDA kernel",
    ]  # fmt: skip
    assert [path.name for path in net.parent.iterdir()] == ["net.py"]
    assert editor.edits == []


async def test_an_estimate_is_no_speedup(start, net, interpreter):
    editor = await start(interpreter("estimate"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    text = await editor.hover(editor.line("class Net"), 8)
    assert "0.160 ms (estimate, H200)" in text
    assert "verified, not measured · estimate 0.160 ms (H200)" in await editor.titles()
    assert "over eager" not in text.split("Round 1")[1]
    await editor.click("Accept")
    assert await editor.hints() == []


async def test_nothing_faster_says_why(start, net, interpreter):
    editor = await start(interpreter("nothing"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Nothing faster found: eager is at 95% of the limit.", "Search again")


async def test_cancel_stops_the_search(start, net, interpreter):
    editor = await start(interpreter("slow"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until(lambda: any(editor.client.progress_reports.values()))
    (token,) = editor.client.progress_reports
    editor.client.window_work_done_progress_cancel(lsp.WorkDoneProgressCancelParams(token))
    await editor.until_lens("Stopped", "Search again")
    reports = editor.client.progress_reports[token]
    await editor.until(lambda: isinstance(reports[-1], lsp.WorkDoneProgressEnd))


async def test_stop_command(start, net, interpreter):
    editor = await start(interpreter("slow"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("round 2/5")
    await editor.execute(STOP, {"uri": net.as_uri(), "qualname": "Net"})
    await editor.until_lens("Stopped.")


async def test_a_stopped_search_goes_on(start, net, interpreter, data):
    editor = await start(interpreter("slow"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("round 2/5")
    await editor.click("Stop")
    await editor.until_lens("Stopped.", "Resume", "Search again")
    original = editor.text
    (resume,) = [le.command for le in await editor.lenses() if le.command.title == "Resume"]
    editor.change(original.replace("x, -1", "x, 0"))
    assert "Resume" not in await editor.titles()
    await editor.execute(resume.command, *resume.arguments)
    assert "changed since this search was stopped" in editor.notices[0]
    editor.change("# a line above\n" + original)
    answer = await editor.click("Resume")
    await editor.until_lens("Went on with 2 ideas.", "Search again")
    with Store(data / "kernel-lsp.db") as store:
        assert store.run(answer["run"]).request.text == editor.text


async def test_code_actions_follow_the_state(start, net, interpreter):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    line = editor.line("torch.softmax")
    (action,) = await editor.actions(line)
    assert action.title == "Optimize with CUDA kernel"
    assert await editor.actions(line, only=["quickfix"]) == []
    assert len(await editor.actions(line, only=["refactor"])) == 1
    assert await editor.actions(editor.line("import torch")) == []
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    assert [a.title for a in await editor.actions(line)] == [
        "Show diff of the CUDA kernel", "Accept the CUDA kernel", "Reject the CUDA kernel",
    ]  # fmt: skip


async def test_a_changed_class_is_stale(start, net, interpreter):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    stale = editor.text.replace("x, -1", "x, 0")
    original = editor.text
    (accept,) = [le.command for le in await editor.lenses() if le.command.title == "Accept"]
    editor.change(stale)
    assert "source changed since this kernel was verified" in await editor.titles()
    assert "Search again" in await editor.titles()
    await editor.execute(accept.command, *accept.arguments)
    assert len(editor.notices) == 1
    assert "changed since" in editor.notices[0]
    assert editor.edits == []
    editor.change(original)
    await editor.click("Accept")
    editor.change(editor.text.replace("x, -1", "x, 0"))
    assert any("the original forward runs" in title for title in await editor.titles())
    assert await editor.hints() == []
    await editor.click("Revert")
    assert editor.text == stale


async def test_the_list_of_searches(start, net, interpreter, data):
    editor = await start(interpreter("offer"))
    await editor.open(net)
    order = lsp.ExecuteCommandParams(command=LIST_RUNS)
    assert await editor.client.workspace_execute_command_async(order) == {"runs": []}
    assert not (data / "kernel-lsp.db").exists(), "looking must not make a store"

    started = await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    (run,) = (await editor.client.workspace_execute_command_async(order))["runs"]
    assert {key: run[key] for key in ("run", "uri", "qualname", "status", "decision")} == {
        "run": started["run"], "uri": net.as_uri(), "qualname": "Net", "status": "finished",
        "decision": "pending",
    }  # fmt: skip
    assert run["result"] == "0.100 ms, ×1.31 over torch.compile, ×31.6 over eager"
    assert run["created"] > 1.7e9
