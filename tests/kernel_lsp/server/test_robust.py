"""Searches that outlive editors, processes that die, stores that cannot be used."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lsprotocol import types as lsp

from kernel_lsp.offers import OPTIMIZE, SHOW_RUN
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.store import Store
from search_engine.task import CaptureRequest


def started(data: Path) -> list[str]:
    path = data / "started.txt"
    return path.read_text().split() if path.exists() else []


async def test_closing_the_editor_neither_kills_nor_loses(start, net, interpreter, data):
    editor = await start(interpreter("slow"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("round 2/5")
    await editor.client.shutdown_session()

    again = await start(interpreter("slow"))
    await again.open(net)
    await again.until_lens("round 2/5", "Stop")
    await again.until(lambda: any(again.client.progress_reports.values()), "progress resumes")
    (data / "release").touch()
    await again.until_lens("Accept")
    assert len(started(data)) == 1


async def test_two_servers_do_not_start_it_twice(start, net, interpreter, data):
    first, second = await asyncio.gather(start(interpreter("slow")), start(interpreter("slow")))
    await asyncio.gather(first.open(net), second.open(net))
    argument = {"uri": net.as_uri(), "qualname": "Net"}
    answers = await asyncio.gather(
        first.execute(OPTIMIZE, argument), second.execute(OPTIMIZE, argument)
    )
    assert answers[0] == answers[1]
    await asyncio.gather(first.until_lens("round 2/5"), second.until_lens("round 2/5"))
    await second.click("Stop")
    await asyncio.gather(first.until_lens("Stopped."), second.until_lens("Stopped."))
    assert len(started(data)) == 1


async def test_a_decision_shows_in_the_other_editor(start, net, interpreter):
    first, second = await asyncio.gather(start(interpreter("offer")), start(interpreter("offer")))
    await first.open(net)
    await second.open(net)
    await first.click("Optimize with CUDA kernel")
    await asyncio.gather(first.until_lens("Reject"), second.until_lens("Reject"))
    count = len(second.refreshes)
    await first.click("Reject")
    await second.until(lambda: len(second.refreshes) > count)
    assert "Reject" not in await second.titles()


async def test_an_interrupted_search_is_taken_up_on_opening(start, net, interpreter, data):
    text = net.read_text()
    with Store(data / "kernel-lsp.db") as store:
        digest = fingerprint(text, "Net")
        assert digest is not None
        run_id, _ = store.start_run(
            CaptureRequest(str(net), text, "Net"), "Net", digest, SearchSettings()
        )
        assert store.claim(run_id, "a process that died")
        store._db.execute("UPDATE runs SET lease_until = ?", (time.time() - 1,))
    editor = await start(interpreter("offer"))
    await editor.open(net)
    await editor.until_lens("Accept")
    assert started(data) == [run_id]


async def test_a_process_that_dies_at_once(start, net, interpreter, data):
    editor = await start(interpreter("die"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Search again")
    assert len(editor.notices) == 1
    assert "has no torch: run `" in editor.notices[0]
    assert "kernel-lsp.interpreter" in editor.notices[0]
    assert len(started(data)) == 1
    with Store(data / "kernel-lsp.db") as store:
        assert store.latest(str(net), "Net").status == "failed"


@pytest.mark.parametrize("interpreter_path", ["/nowhere/python", "/etc/passwd"])
async def test_an_interpreter_that_is_none(start, net, interpreter_path):
    editor = await start(interpreter_path)
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    assert len(editor.notices) == 1
    assert f"{interpreter_path} cannot be started" in editor.notices[0]
    await editor.until_lens("Search again")


async def test_a_failed_search_says_why(start, net, interpreter):
    editor = await start(interpreter("fail"))
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Net needs arguments: describe them in a comment.", "Search again")


async def test_a_syntax_error_in_the_buffer(start, net, interpreter, data):
    editor = await start(interpreter("offer"))
    await editor.open(net, net.read_text() + "\n\ndef broken(:\n")
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    await editor.click("Optimize with CUDA kernel")
    (notice,) = editor.notices
    assert notice.startswith(f"Line {editor.line('broken(:') + 1} of net.py")
    assert started(data) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no database" * 100), "is damaged: move it away"),
        (lambda path: newer(path), "written by a newer kernel-lsp"),
    ],
)
async def test_a_store_that_cannot_be_used(start, net, interpreter, data, spoil, says):
    database = data / "kernel-lsp.db"
    spoil(database)
    editor = await start(interpreter("offer"))
    await editor.open(net)
    await editor.until(lambda: bool(editor.notices))
    await asyncio.sleep(1.5)
    assert len(editor.notices) == 1, "said once"
    assert says in editor.notices[0]
    await editor.click("Optimize with CUDA kernel")
    assert len(editor.notices) == 2
    for leftover in data.glob("kernel-lsp.db*"):
        leftover.unlink()
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


async def test_a_locked_store_keeps_nobody_waiting(start, net, interpreter, data):
    with Store(data / "kernel-lsp.db"):
        pass
    editor = await start(interpreter("offer"))
    await editor.open(net)
    lock = sqlite3.connect(data / "kernel-lsp.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.ensure_future(editor.click("Optimize with CUDA kernel"))
    await asyncio.sleep(0.3)
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    lock.execute("ROLLBACK")
    lock.close()
    assert (await waiting)["run"]


async def test_no_write_access_to_the_data_folder(start, net, interpreter, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder goes")
    editor = await start(interpreter("offer"), environment={"KERNEL_LSP_DATA": str(blocked)})
    await editor.open(net)
    await editor.click("Optimize with CUDA kernel")
    (notice,) = editor.notices
    assert "set KERNEL_LSP_DATA to a folder you can write to" in notice


async def test_shutdown_with_a_request_in_flight(start, net, interpreter, data):
    with Store(data / "kernel-lsp.db"):
        pass
    editor = await start(interpreter("slow"))
    await editor.open(net)
    lock = sqlite3.connect(data / "kernel-lsp.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    waiting = asyncio.ensure_future(editor.click("Optimize with CUDA kernel"))
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    await editor.client.shutdown_session()
    assert editor.client._server.returncode == 0
    assert time.monotonic() - begun < 5, "the locked store holds up the exit"
    lock.close()
    with pytest.raises(Exception, match=r"[Cc]ancel"):
        await waiting


async def test_the_server_ends_with_its_editor(net, interpreter, data):
    program = (
        "import subprocess, sys, time\n"
        "server = subprocess.Popen([sys.executable, '-m', 'kernel_lsp', 'serve'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    editor = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert editor.stdout is not None
    server = int(editor.stdout.readline())
    await asyncio.sleep(1)
    editor.kill()
    editor.wait()
    for _ in range(100):
        state = Path(f"/proc/{server}/stat")
        if not state.exists() or state.read_text().split(")")[1].split()[0] == "Z":
            return
        await asyncio.sleep(0.1)
    os.kill(server, 9)
    pytest.fail("the server outlived its editor")


async def test_settings_are_checked_and_followed(start, net, interpreter, data):
    settings = {"serch": {}, "search": {"rounds": "five", "ideas": 2, "branch": 1}}
    editor = await start(interpreter("slow"), settings=settings)
    await editor.open(net)
    await editor.until(lambda: len(editor.notices) == 2)
    assert any("kernel-lsp.serch, kernel-lsp.search.branch" in n for n in editor.notices)
    assert any("rounds has to be a whole number of 1 or more" in n for n in editor.notices)
    run_id = (await editor.click("Optimize with CUDA kernel"))["run"]
    with Store(data / "kernel-lsp.db") as store:
        assert store.run(run_id).settings == SearchSettings(ideas=2)
    await editor.until_lens("Stop")

    other = data.parent / "other"
    editor.client.set_configuration(
        {"kernel-lsp": {"interpreter": interpreter("offer"), "dataFolder": str(other)}}
    )
    editor.client.workspace_did_change_configuration(lsp.DidChangeConfigurationParams({}))

    async def idle() -> bool:
        return await editor.titles() == ["Optimize with CUDA kernel"]

    await editor.until(idle)
    await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    assert len(editor.notices) == 2
    (data / "release").touch()


async def test_files_that_are_none_of_ours(start, net, tmp_path):
    editor = await start()
    item = lsp.TextDocumentItem("untitled:Untitled-1", "python", 1, net.read_text())
    editor.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
    notes = tmp_path / "notes.txt"
    item = lsp.TextDocumentItem(notes.as_uri(), "plaintext", 1, net.read_text())
    editor.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
    editor.path = notes
    assert await editor.lenses() == []
    assert await editor.hover(7, 7) == ""
    assert await editor.actions(7) == []
    assert await editor.hints() == []


async def test_print_does_not_reach_the_protocol(start, net, tmp_path):
    noisy = tmp_path / "site"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(
        "import sys\n"
        "import threading\n"
        "def shout():\n"
        "    import os, time\n"
        f"    while not os.path.exists({str(noisy / 'now')!r}):\n"
        "        time.sleep(0.02)\n"
        "    print('shout', flush=True)\n"
        "    os.system('echo shout; cat')\n"
        f"    os.rename({str(noisy / 'now')!r}, {str(noisy / 'done')!r})\n"
        "if 'serve' in sys.argv or 'serve' in ' '.join(sys.orig_argv):\n"
        "    threading.Thread(target=shout, daemon=True).start()\n"
    )
    editor = await start(environment={"PYTHONPATH": str(noisy)})
    await editor.open(net)
    (noisy / "now").touch()  # the server answers by now, however slow the machine is
    await editor.until((noisy / "done").exists)
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    assert editor.client.error is None


async def test_a_command_right_after_opening_knows_the_run(start, net, interpreter, data):
    text = net.read_text()
    with Store(data / "kernel-lsp.db") as store:
        request = CaptureRequest(path=str(net), text=text)
        run_id, _ = store.start_run(request, "Net", fingerprint(text, "Net"), SearchSettings())
        assert store.claim(run_id, "another process")
        store.finish(run_id, "finished", "Nothing faster found.")
    editor = await start(interpreter("offer"))
    await editor.open(net)
    answer = await editor.execute(SHOW_RUN, {"uri": net.as_uri(), "qualname": "Net"})
    assert answer["run"] is not None
    assert not editor.notices
