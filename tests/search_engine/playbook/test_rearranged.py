"""Operators that move whole elements: the loop nest means what torch computes."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook import catalogue
from search_engine.playbook.program import Unsupported

MOVES = [
    "F.pixel_shuffle(x, 2)",
    "F.pixel_unshuffle(x, 3)",
    "F.channel_shuffle(x, 4)",
    "F.interpolate(x, scale_factor=2)",
    "F.interpolate(x, size=(12, 9))",
    "x.repeat_interleave(3, 1)",
    "x[0, 0].repeat_interleave(2)",
    "x.repeat(2, 1, 3, 1)",
    "torch.tile(x, (2,))",
    "x[0].repeat(2, 1, 1, 2)",
    "torch.roll(x, (1, -2), (2, 3))",
    "torch.roll(x, 5)",
    "torch.roll(x, 6, 2)",
    "F.pad(x, (1, 2, 3, 0), mode='reflect')",
    "F.pad(x, (1, 2, 0, 3), mode='replicate')",
    "F.pad(x, (1, 2, 2, 3), mode='circular')",
    "F.pad(x, (1, -2, 2, 3), value=0.5)",
    "x.movedim(1, -1)",
    "x.movedim((0, 3), (2, 1))",
    "x.unfold(3, 3, 2)",
    "x.unfold(2, 2, 2).unfold(3, 3, 3)",
    "x.unfold(2, 3, 1).amax(-1)",
    "torch.max(x, x.flip(3))",
    "torch.min(x, x[:, :1]).max(1).values",
]


@pytest.mark.parametrize("move", MOVES)
def test_moves(take, means, move):
    captured = take("x=float32[2, 8, 6, 9]", f"return {move} * 2")
    plan = means(captured, draws=[("normal", 1)])
    assert len(plan.stages) == 1


def test_moves_in_a_chain_on_the_cpu_device(take, agree):
    captured = take(
        "x=float32[2, 8, 6, 8]",
        "x = F.pad(x, (2, 2, 1, 1), mode='reflect').relu()\n"
        "return F.interpolate(F.pixel_shuffle(x, 2), scale_factor=2) + 1",
    )
    first = catalogue.candidates(captured.task, H200)[0]
    agree(captured, [first.render(next(iter(first.variants())))], draws=[("normal", 1)])


@pytest.mark.parametrize("options", ["size=(8, 7)", "scale_factor=(2, 2.3)"])
def test_factors_that_are_not_whole_are_refused(take, options):
    captured = take("x=float32[2, 3, 4, 3]", f"return F.interpolate(x, {options})")
    with pytest.raises(Unsupported, match="factors that are not whole"):
        catalogue.candidates(captured.task, H200)


def test_constants_of_forward(take, agree):
    captured = take(
        "x=float32[2, 3, 6, 8]",
        "w = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype).view(3, 1, 1)\n"
        "k = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=x.dtype)\n"
        "gray = (x * w).sum(1, keepdim=True)\n"
        "return F.conv2d(F.pad(gray, (1, 1, 1, 1), 'replicate'), k[None, None])",
    )
    first = catalogue.candidates(captured.task, H200)[0]
    agree(captured, [first.render(next(iter(first.variants())))], draws=[("normal", 1)])
