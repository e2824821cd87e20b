"""Runs in words."""

from __future__ import annotations

import pytest
from attrs import evolve
from markdown_it import MarkdownIt

from kernel_lsp import presentation as words
from search_engine.deliver.delivery import DeliveredShape, Delivery
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.store.records import IdeaRecord, KernelRecord, Run
from search_engine.task import CaptureRequest
from search_engine.verdict import (
    Accuracy,
    Baseline,
    Estimate,
    Finding,
    Measurement,
    Sample,
    Verdict,
)


def sample(seconds: float) -> Sample:
    return Sample(seconds, seconds, seconds, 50)


MEASURED = Measurement(
    "NVIDIA H200", sample(1.64e-4), sample(5.18e-3), {"default": sample(2.15e-4)}
)
ACCURATE = Verdict(
    True, "NVIDIA H200", accuracy=(Accuracy("out", "normal", 2e-7, 3e-7, 1.9e-6, 3e-7, 7.6e-6),)
)

REJECTED = Verdict(False, "cpu", (Finding("race", "two writers", 7),))


def kernel(number: int, idea: int, **known: object) -> KernelRecord:
    blank = KernelRecord(number, idea, 0, "", "// source\n", (), None, None, None, 0.0, True)
    return evolve(blank, **known)


def idea(number: int, round_number: int, title: str, branched: bool = True) -> IdeaRecord:
    content = Idea(title, "Because.", "parallelism and occupancy", 2.0)
    return IdeaRecord(number, round_number, number, "playbook", content, branched)


def run(**known: object) -> Run:
    blank = Run(
        id="r", path="/p/net.py", qualname="Net", fingerprint="f",
        request=CaptureRequest("/p/net.py", "", "Net"), settings=SearchSettings(),
        status="running", message="verifying", decision="none", round=2, created=0.0, updated=0.0,
        stop_requested=False, task=None, baseline=None,
        ideas=(idea(1, 1, "One warp per row"), idea(2, 1, "Split a row over many blocks"),
               idea(3, 2, "Keep the row on chip", branched=False)),
        kernels=(kernel(1, 1, verdict=ACCURATE, measurement=MEASURED),
                 kernel(2, 2, verdict=REJECTED)),
        winner_id=None, delivery=None, alive=True,
    )  # fmt: skip
    return evolve(blank, **known)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.16e-5, "31.6 µs"), (9.999e-5, "100 µs"), (1.64e-4, "0.164 ms"), (8.1e-3, "8.10 ms"),
        (0.25, "250 ms"), (2.5, "2.50 s"), (9e-7, "0.900 µs"),
    ],
)  # fmt: skip
def test_times(seconds: float, text: str) -> None:
    assert words.time_text(seconds) == text


def test_speedups() -> None:
    assert words.speedup_text(MEASURED) == "×1.31 over torch.compile, ×31.6 over eager"
    assert words.headline_phrase(MEASURED) == "×1.31 over torch.compile"
    alone = evolve(MEASURED, compiled={})
    assert words.speedup_text(alone) == "×31.6 over eager (torch.compile failed)"
    slow = evolve(MEASURED, compiled={"default": sample(1.0)})
    assert words.headline_phrase(slow) == "×31.6 over eager"


def test_the_running_phrase_and_progress() -> None:
    assert words.status_sentence(run()) == "round 2/5 · best ×1.31 over torch.compile"
    assert words.progress_message(run()) == (
        "round 2/5 · verifying · best ×1.31 over torch.compile"
    )
    working = run(message="checking 2 of 8, “Keep “it”: all”: threads=128, vector=4", kernels=())
    assert words.progress_message(working) == "round 2/5 · checking 2 of 8 · Keep “it”: all"
    assert words.status_sentence(run(round=0, message="importing")) == "importing"
    assert words.status_sentence(run(stop_requested=True)) == "stopping"
    assert words.progress_share(run()) == pytest.approx(1 / 5)
    assert words.progress_share(run(round=0)) == 0


def test_an_estimate_is_named_and_has_no_speedup() -> None:
    estimate = Estimate("NVIDIA H200", 1.6e-4, "DRAM", {})
    verified = kernel(1, 1, verdict=evolve(ACCURATE, device="cpu (SIMT)"), estimate=estimate)
    found = run(kernels=(verified,), winner_id=1, status="finished", message="Verified.")
    assert words.best_phrase(found) == "best 0.160 ms (estimate, H200)"
    text = words.run_markdown(found)
    assert "0.160 ms (estimate, H200)" in text
    assert "not measured, there was no GPU" in text.replace("\n", " ")
    assert "over eager" not in text
    assert "faster" not in text


def test_headroom() -> None:
    from search_engine.task import Task

    task = Task(
        "/p", "Net", "net", "f", "comment", "Net()", (), {}, "eval", "match", "h200", 1, 1, 1,
        1.3e-4, "DRAM", None,
    )  # fmt: skip
    baseline = Baseline("NVIDIA H200", sample(8.1e-3), {})
    assert words.headroom_phrase(run()) == ""
    assert words.headroom_phrase(run(task=task)) == "limit 0.130 ms (H200)"
    assert (
        words.headroom_phrase(run(task=task, baseline=baseline))
        == "eager 8.10 ms · limit 0.130 ms · headroom ×62.3"
    )
    assert words.limit_phrase(run(task=task), run().kernels[0]) == "79% of the limit"
    assert "The limit is the least time the hardware allows, set by DRAM." in words.run_markdown(
        run(task=task)
    ).replace("\n", " ")


def test_rows_tell_every_idea() -> None:
    first, second, third = words.idea_rows(run(winner_id=1))
    assert first.winner
    assert not second.winner
    assert first.outcome.startswith("0.164 ms, ×1.31")
    assert second.outcome == "rejected: race: two writers (line 7)"
    assert third.outcome == "kernels are being written"
    (_, _, over) = words.idea_rows(run(status="stopped"))
    assert over.outcome == "no kernel was made of it"
    begun = (kernel(1, 3, verdict=REJECTED), kernel(2, 3, finished=False))
    assert words.idea_rows(run(kernels=begun))[2].outcome == "1 of 2 kernels checked"
    assert words.idea_rows(run(kernels=begun[1:]))[2].outcome == "waiting to be checked"
    stopped = words.idea_rows(run(kernels=begun, status="stopped"))[2]
    assert stopped.outcome == "not finished: 1 of 2 kernels checked"


def test_the_page_fits_80_columns_and_holds_no_foreign_markup() -> None:
    delivery = Delivery(
        "Net", "f", {}, "", "", "Evil [link](command:x) <b>", "A reason. " * 30, "×1.31"
    )
    titles = tuple(idea(n, 1, "A very long title " * 8 + "`code`") for n in (1, 2))
    text = words.run_markdown(
        run(ideas=titles, winner_id=1, delivery=delivery, status="finished", decision="pending")
    )
    assert max(map(len, text.splitlines())) <= 80
    assert "[link]" not in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "`code`" not in text
    assert "Verified on NVIDIA H200: error 2e-07 against fp64, bound 1.9e-06." in text
    assert "Accept or Reject" in text


@pytest.mark.parametrize(
    ("known", "phrase"),
    [
        ({}, "0.164 ms, ×1.31 over torch.compile, ×31.6 over eager"),
        ({"kernels": ()}, "nothing verified yet"),
        ({"status": "failed"}, "failed"),
        ({"status": "stopped"}, "stopped"),
        ({"status": "finished"}, "nothing faster found"),
        ({"status": "finished", "winner_id": 1}, f"0.164 ms, {words.speedup_text(MEASURED)}"),
    ],
)  # fmt: skip
def test_results(known: dict, phrase: str) -> None:
    assert words.result_phrase(run(**known)) == phrase


@pytest.mark.parametrize("text", ["[a](http://b)", "see https://b.org/c", "www.b.org", "a*b_c `d`"])
def test_escaped_text_reads_literally_and_links_to_nothing(text):
    escaped = words.escape(text)
    assert MarkdownIt().render(escaped) == f"<p>{text}</p>\n"
    # Editors make links of bare addresses.
    assert "://" not in escaped
    assert "www." not in escaped


def test_the_shapes_that_a_kernel_runs_on():
    blank = Delivery("Net", "f", {}, "", "", "One warp per row", "Because.", "×2.00")
    two = (
        DeliveredShape("x float32[16, 64]", "×2.00"),
        DeliveredShape("x float32[1, 64]", "×1.50"),
    )
    for shapes, shown in ((two, True), (two[:1], False)):
        text = words.run_markdown(run(winner_id=1, delivery=evolve(blank, shapes=shapes)))
        assert ("Verified at:\n\n- " in text) is shown
        assert (r"- x float32\[1, 64]: ×1.50" in text.replace(r"\]", "]")) is shown
