"""The proposer: rounds of ideas, refinements that cite what was measured, nothing twice."""

import pytest

from search_engine.hardware import H200
from search_engine.proposers._base import History, Idea, Tried
from search_engine.proposers.playbook import Playbook, normalised


def told(tried, round_number):
    best = min((t.best_seconds for t in tried if t.best_seconds), default=None)
    return History(round_number, tuple(tried), (), best, 1e-6)


def play(task, rounds, clock):
    """Rounds of four ideas and three branches; ``clock`` gives a label's seconds."""
    tried, sources, ideas = [], [], []
    for number in range(1, rounds + 1):
        book = Playbook(H200)  # a resumed search has a new one: nothing may live in the object
        history = told(tried, number)
        offered = book.ideas(task, history, 4)
        for idea in offered:
            branches = book.branches(task, idea, told(tried, number), 3)
            sources += [normalised(b.source) for b in branches]
            times = {b.label: clock(b.label) for b in branches}
            best = min(times, key=times.get, default="")
            tried.append(
                Tried(number, idea, len(branches), len(branches), times.get(best), (),
                      tuple(times), best)
            )  # fmt: skip
        ideas.append(offered)
    return ideas, sources


def test_rounds_bring_new_ideas_and_no_text_twice(take):
    task = take("x=float32[1024, 4096]", "return x.softmax(-1)").task
    ideas, sources = play(task, 4, lambda label: 1e-4 + (sum(map(ord, label)) % 97) * 1e-7)
    assert all(ideas[:3])
    keys = [idea.key for offered in ideas for idea in offered]
    assert len(keys) == len(set(keys))
    assert len(sources) == len(set(sources))


def test_refinements_cite_what_came_out(take):
    task = take("x=float32[256, 8192]", "return F.gelu(x) * 2").task
    ideas, _ = play(task, 2, lambda label: 123.4e-6)
    assert any("123.4 µs" in idea.rationale for idea in ideas[1])
    assert all(isinstance(idea, Idea) and idea.expected for idea in ideas[1])


def test_two_changes_that_helped_are_combined(take):
    task = take("x=float32[256, 8192]", "return F.gelu(x) * 2").task

    def clock(label):
        seconds = 100e-6
        seconds -= 10e-6 * ("threads=512" in label)
        seconds -= 5e-6 * ("packs=4" in label)
        return seconds

    ideas, _ = play(task, 4, clock)
    combined = [i for offered in ideas for i in offered if i.title.endswith("together")]
    assert combined
    assert "alone came to 90.0 µs" in combined[0].rationale


def test_it_runs_dry(take):
    task = take("x=float32[7]", "return x * 2").task
    ideas, _ = play(task, 30, lambda label: 1e-5)
    assert ideas[-1] == []


def test_the_first_ideas_come_by_predicted_time(take):
    task = take("x=float32[4, 2000000]", "return x.softmax(-1)").task
    first = Playbook(H200).ideas(task, told([], 1), 4)
    assert first[0].key in ("split_rows", "chip_as_buffer")
    assert first[0].expected >= first[-1].expected


def test_an_operator_without_an_idea_is_named(take):
    task = take("x=float32[8, 8]", "return F.relu(torch.linalg.inv(x @ x))").task
    book = Playbook(H200)
    assert "aten.linalg_inv" in book.unsupported(task)
    assert book.ideas(task, told([], 1), 4) == []


def test_rationales_hold_the_tasks_own_numbers(take):
    task = take("x=float32[140, 65536]", "return x.softmax(1)").task
    ideas = Playbook(H200).ideas(task, told([], 1), 4)
    assert "140 rows of 65,536 elements" in ideas[0].rationale


def test_it_writes_for_the_tasks_gpu(take):
    """The cpu device reports few multiprocessors of its own; the task names the target."""
    from attrs import evolve

    task = take("x=float32[4, 2000000]", "return x.softmax(-1)").task
    history = told([], 1)
    here = Playbook(evolve(H200, sm_count=4)).ideas(task, history, 4)
    assert here == Playbook(H200).ideas(task, history, 4)


def test_a_variant_that_cannot_be_written_costs_no_other(take, monkeypatch, caplog):
    task = take("x=float32[1024, 4096]", "return x.softmax(-1)").task
    book = Playbook(H200)
    (idea,) = book.ideas(task, told([], 1), 1)
    every = book.branches(task, idea, told([], 1), 3)
    candidate = next(c for c in book._candidates(task) if c.key == idea.key)
    write = type(candidate).render

    def failing(self, variant):
        if variant.label == every[0].label:
            raise KeyError("acc7")
        return write(self, variant)

    monkeypatch.setattr(type(candidate), "render", failing)
    labels = [branch.label for branch in book.branches(task, idea, told([], 1), 2)]
    assert labels == [branch.label for branch in every[1:]]
    assert "KeyError: 'acc7'" in caplog.text
    # Nor a later round, which writes what was tried once more to know the texts.
    tried = Tried(1, idea, 3, 3, 1e-4, (), tuple(b.label for b in every), every[1].label)
    assert book.ideas(task, told([tried], 2), 4)
    only = [v for v in candidate.variants() if v.label == every[0].label]
    monkeypatch.setattr(type(candidate), "variants", lambda _: only)
    with pytest.raises(KeyError, match="acc7"):  # with none left, whoever asks is told
        book.branches(task, idea, told([], 1), 1)
