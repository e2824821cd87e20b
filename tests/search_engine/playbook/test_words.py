"""Rationales and titles: what they claim holds for the task, and reads as a sentence."""

import re

import pytest

from search_engine.hardware import H200
from search_engine.playbook import words
from search_engine.playbook.analyse import analyse
from search_engine.playbook.ideas import ALL
from search_engine.proposers._base import History, Tried
from search_engine.proposers.playbook import Playbook

IDEAS = {idea.key: idea for idea in ALL}
TASKS = {
    "tiny": ("x=float32[7]", "return x * 2"),
    "odd": ("x=float16[64, 1001]", "return F.gelu(x + self.b)",
            "self.b = nn.Parameter(torch.ones(1001).half())"),
    "small rows": ("x=float32[1, 300]", "return x.softmax(-1)"),
    "sum": ("x=float32[512, 3000]", "return x - x.sum(-1, keepdim=True)"),
    "several": ("x=float32[512, 3000]", "return x.amax(-1), x.sum(-1), x.std(-1)"),
    "total": ("x=float32[1024, 1024]", "return x.sum()"),
    "one row": ("x=float32[1, 2000000]", "return x.softmax(-1)"),
    "many rows": ("x=float32[2000, 4096]", "return x.softmax(-1)"),
    "columns": ("x=float32[8, 64, 300]", "return x.sum(1, keepdim=True) + x"),
    "transposed": ("x=float32[8, 64, 300]", "return x.transpose(1, 2).softmax(1)"),
    "a short row": ("x=float32[55]", "return x.sum()"),
    "apart": ("x=float32[7, 33, 19]", "return x.argmin(1), x.argmax()"),
    "norms": ("x=float32[64, 700]", "return self.n(x.softmax(-1))", "self.n = nn.LayerNorm(700)"),
}  # fmt: skip
SLIPS = [
    r"their the", r"\b(a|an|the) (a|an|the)\b", r"(?<![\d,])0\.0 ", r"(?<![\d.,])0 (µs|MB|KB)",
    r"(?<![\d,])1 rows", r"(?<![\d,])1 elements",
    r"There is 1 row [^.;]* of each",
    r"The (sum|maximum) run\b", r"its (sum|maximum) seem\b", r"chain of 1 ",
    r"\.\.", r"  ", r"(?<![\d,])0 bytes", r"[a-z]: [A-Z][a-z]", r"(?<!\d)\. [a-z]",
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(TASKS))
def test_rationales_read_as_sentences(take, name):
    book, tried = Playbook(H200), []
    task = take(*TASKS[name]).task
    for number in (1, 2):
        history = History(number, tuple(tried), (), None, 1e-6)
        for idea in book.ideas(task, history, 5):
            for slip in SLIPS:
                assert not re.search(slip, idea.rationale), (slip, idea.rationale)
            assert len(idea.title) <= 110
            labels = tuple(b.label for b in book.branches(task, idea, history, 3))
            tried.append(Tried(number, idea, len(labels), len(labels), 1e-5, (), labels, labels[0]))


def test_a_thread_of_single_elements_is_said_to_be_one(take):
    forward, init = "return F.gelu(x + self.b)", "self.b = nn.Parameter(torch.ones(1001))"
    program = analyse(take("x=float32[30000, 1001]", forward, init).task)
    text = IDEAS["fuse_chain"].why(program, H200)
    assert "single elements" in text
    assert "16 bytes" not in text


def test_shares_have_their_unit(take):
    book = Playbook(H200)
    task = take("x=float32[4096, 16384]", "return x.softmax(-1)").task
    (first, *_) = book.ideas(task, History(1, (), (), None, 1e-6), 1)
    label = book.branches(task, first, History(1, (), (), None, 1e-6), 1)[0].label
    tried = Tried(1, first, 1, 1, 1e-4, (), (label,), label)
    ideas = book.ideas(task, History(2, (tried,), (), None, 1e-6), 9)
    titles = [i.title for i in ideas if ": registers " in i.title]
    assert titles
    assert re.search(r"registers \d+%.* instead of \d+%", titles[0])


def test_uncoalesced_tensors_are_named_and_cost_time(take):
    idea = IDEAS["tile_of_rows"]
    along = analyse(take("x=float32[8, 64, 300]", "return x.softmax(1)").task)
    across = analyse(
        take("x=float32[8, 64, 300]", "return x.transpose(1, 2).contiguous().softmax(1)").task
    )
    assert "every access is coalesced" in idea.why(along, H200)
    text = idea.why(across, H200)
    assert "every access is coalesced" not in text
    assert "uncoalesced" in text
    variant = idea.variants(along, H200)[0]
    assert idea.seconds(across, variant, H200) > 2 * (idea.seconds(along, variant, H200) - 2.5e-6)
    assert "others do not" in idea.render(across, idea.variants(across, H200)[0], H200)


def test_sizes_and_times():
    assert [words.size(n) for n in (28, 262144, 4.2e6, 1.34e8)] == [
        "28 bytes", "256 KB", "4.2 MB", "134 MB",
    ]  # fmt: skip
    assert [words.time(t) for t in (1e-9, 3.14e-5)] == ["under 0.1 µs", "31.4 µs"]
    assert words.listed(["a", "b", "c"], "or") == "a, b or c"


def test_plans_say_which_launch_and_what_passes(take):
    book = Playbook(H200)
    task = take("x=float32[5, 7, 11]", "return x.norm(dim=(0, 2)), x.norm(dim=-1), x.norm()").task
    (best, other, *_) = book.ideas(task, History(1, (), (), None, 1e-6), 2)
    assert best.title == "Three launches: " + " → ".join(["linalg_vector_norm"] * 3)
    assert re.fullmatch(re.escape(best.title) + r"; launch [123]: .+", other.title)
    assert "share no loops" in best.rationale
    assert "scratch" not in best.rationale
    task = take("x=float32[64, 700]", "return (x.softmax(-1) @ x.T).softmax(-1)").task
    (first, *_) = book.ideas(task, History(1, (), (), None, 1e-6), 1)
    assert "pass between them through scratch memory" in first.rationale


def test_a_row_is_written_once_only_where_it_is(take):
    idea = IDEAS["warp_per_row"]
    number = analyse(take("x=float32[64, 91]", "return x.sum(-1)").task)
    assert "read once, and" in idea.why(number, H200)
    whole = analyse(take("x=float32[64, 91]", "return x.softmax(-1)").task)
    assert "read once and written once" in idea.why(whole, H200)


def test_plans_that_differ_by_their_cuts_say_so(take):
    book = Playbook(H200)
    forward = (
        "return F.mse_loss(x, self.y), F.huber_loss(x, self.y), F.smooth_l1_loss(x, self.y),"
        " F.cross_entropy(x, self.y.argmax(1), label_smoothing=0.1), F.l1_loss(x, self.y),"
        " F.binary_cross_entropy_with_logits(x, self.y)"
    )
    init = "self.y = nn.Parameter(torch.rand(17, 31))"
    task = take("x=float32[17, 31]", forward, init).task
    titles = [idea.title for idea in book.ideas(task, History(1, (), (), None, 1e-6), 8)]
    assert any("; cut after " in title for title in titles)
    assert len(set(titles)) == len(titles)


def test_rows_are_said_to_be_cut_only_where_a_variant_does(take):
    idea = IDEAS["scan_rows"]
    short = analyse(take("x=float32[7, 131]", "return x.cumsum(1)").task)
    assert "into parts" not in idea.why(short, H200)
    long = analyse(take("x=float32[2, 1000000]", "return x.cumsum(1)").task)
    assert "variants cut rows into parts" in idea.why(long, H200)
