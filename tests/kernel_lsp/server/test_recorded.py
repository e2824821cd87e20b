"""What ``kernel-lsp record`` saw, in the editor: the lens, the hover, the search's inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_lsp.offers import OPTIMIZE, SHOW_RUN
from search_engine.recording import RecordedCall, Recording
from search_engine.source import fingerprint
from search_engine.store.store import Store


@pytest.fixture
def bare(net: Path) -> Path:
    """The file without the comment that says the inputs."""
    net.write_text(net.read_text().replace("# kernel-lsp: x=float32[64, 256]\n", ""))
    return net


def recording(net: Path, **known) -> Recording:
    return Recording(
        **{
            "path": str(net), "qualname": "Net", "command": "train.py", "recorded": 1.7e9,
            "fingerprint": fingerprint(net.read_text(), "Net"), "device": "NVIDIA H200",
            "calls": 1200, "graded": 1000, "seconds": 2e-4, "share": 0.384, "self_share": 0.12,
            "variants": (RecordedCall("Net(), x=float32[16, 64]", 1100, state="s"),
                         RecordedCall("Net(), x=float32[7, 64]", 1, state="s")),
            **known,
        }
    )  # fmt: skip


def keep(data: Path, *recordings: Recording) -> None:
    with Store(data / "kernel-lsp.db") as store:
        store.add_recordings(recordings)


async def test_the_lens_says_the_share_and_the_hover_the_rest(start, bare, interpreter, data):
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    assert await editor.titles() == ["Optimize with CUDA kernel"]
    keep(data, recording(bare))
    await editor.until_lens("38% of the step", "Optimize with CUDA kernel")
    text = " ".join((await editor.hover(editor.line("class Net"), 7)).split())
    assert "recorded from train.py on NVIDIA H200" in text
    assert "1,200 calls, 0.200 ms each, 38% of the step, 12% without the modules in it" in text
    assert "In 1,000 of them gradients were enabled" in text
    assert "x=float32\\[16, 64\\] · 1,100 calls" in text
    assert "x=float32\\[7, 64\\] · 1 call" in text
    assert "1 calls" not in text
    answer = await editor.execute(SHOW_RUN, {"uri": bare.as_uri(), "qualname": "Net"})
    assert answer["run"] is None
    assert "1,100 calls" in (data / "shown" / "recorded" / "Net.md").read_text()


async def test_a_search_goes_by_what_was_recorded(start, bare, interpreter, data):
    keep(data, recording(bare))
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    await editor.until_lens("38% of the step")
    answer = await editor.click("Optimize with CUDA kernel")
    await editor.until_lens("Accept")
    assert (await editor.titles())[0] == (
        "38% of the step · ×1.31 over torch.compile, ×31.6 over eager"
    )
    with Store(data / "kernel-lsp.db") as store:
        recorded = store.run(answer["run"]).request.recorded
    assert [call.description for call in recorded] == [
        "Net(), x=float32[16, 64]", "Net(), x=float32[7, 64]",
    ]  # fmt: skip


async def test_a_stale_recording_is_said_and_not_used(start, bare, interpreter, data):
    keep(data, recording(bare))
    bare.write_text(bare.read_text().replace("x, -1", "x, 0"))
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    await editor.until_lens("38% of the step before it changed")
    assert "The class changed since: record again." in " ".join(
        (await editor.hover(editor.line("class Net"), 7)).split()
    )
    await editor.execute(OPTIMIZE, {"uri": bare.as_uri(), "qualname": "Net"})
    assert "Net changed since it was recorded: record it again" in editor.notices[0]


async def test_what_could_not_be_described_is_the_reason(start, bare, interpreter, data):
    keep(data, recording(bare, variants=(), undescribed="its argument 1 is a Linear"))
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    await editor.until_lens("38% of the step")
    await editor.execute(OPTIMIZE, {"uri": bare.as_uri(), "qualname": "Net"})
    assert "cannot be used (its argument 1 is a Linear)" in editor.notices[0]


async def test_the_comment_to_insert_is_filled_in(start, bare, interpreter, data):
    keep(data, recording(bare))
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    await editor.until_lens("38% of the step")
    (describe,) = [
        action
        for action in await editor.actions(editor.line("class Net"))
        if action.title.startswith("Describe inputs")
    ]
    (edits,) = describe.edit.document_changes
    assert edits.edits[0].new_text == "# kernel-lsp: Net(), x=float32[16, 64]\n"


async def test_without_inputs_recording_is_one_of_the_ways(start, bare, interpreter):
    editor = await start(interpreter("offer"))
    await editor.open(bare)
    await editor.execute(OPTIMIZE, {"uri": bare.as_uri(), "qualname": "Net"})
    assert "`kernel-lsp record`" in editor.notices[0]
