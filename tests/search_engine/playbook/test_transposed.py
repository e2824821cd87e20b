"""Transposed convolutions, einsum with dots, and cells: the plan means what torch computes."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook import catalogue
from search_engine.playbook.program import Unsupported

TRANSPOSED = [
    ("2d(4, 3, 2, stride=2)", "2, 4, 5, 6"),
    ("2d(4, 3, (2, 3), stride=(2, 3), bias=False)", "2, 4, 5, 6"),
    ("2d(4, 3, 3, padding=1)", "2, 4, 5, 6"),
    ("2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)", "2, 4, 5, 6"),
    ("2d(4, 3, 3, stride=(1, 3), dilation=(2, 1))", "2, 4, 5, 6"),
    ("2d(4, 3, 2, stride=3)", "2, 4, 5, 6"),
    ("1d(4, 3, 4, 2, 1)", "2, 4, 7"),
    ("1d(4, 3, 3, 3)", "4, 7"),
    ("1d(4, 3, 3)", "4, 7"),
    ("3d(2, 3, 2, 2)", "1, 2, 3, 4, 5"),
    ("3d(2, 3, 3, 2, 1)", "1, 2, 3, 3, 2"),
]


@pytest.mark.parametrize(("options", "shape"), TRANSPOSED)
def test_transposed_convolutions(take, means, options, shape):
    captured = take(
        f"x=float32[{shape}]", "return self.up(x).relu()", f"self.up = nn.ConvTranspose{options}"
    )
    means(captured, draws=[("normal", 1)], reach=2e-6)


def test_taps_as_wide_as_the_stride_are_one_launch(take, means):
    captured = take(
        "x=float32[2, 4, 5, 6]", "return self.up(x)", "self.up = nn.ConvTranspose2d(4, 3, 2, 2)"
    )
    assert len(means(captured).stages) == 1


def test_more_padding_than_taps_is_refused(take):
    captured = take(
        "x=float32[2, 4, 9]", "return self.up(x)", "self.up = nn.ConvTranspose1d(4, 3, 2, 1, 3)"
    )
    with pytest.raises(Unsupported, match="more padding than taps"):
        catalogue.candidates(captured.task, H200)


@pytest.mark.parametrize("options", ["2, stride=2", "3, stride=2, padding=1"])
def test_transposed_convolutions_on_the_cpu_device(take, agree, options):
    captured = take(
        "x=float32[2, 4, 5, 8]",
        "return self.up(x).sigmoid()",
        f"self.up = nn.ConvTranspose2d(4, 3, {options})",
    )
    first = catalogue.candidates(captured.task, H200)[0]
    agree(captured, [first.render(next(iter(first.variants())))], draws=[("normal", 1)])


@pytest.mark.parametrize(
    "equation",
    ["...ik,...kj->...ij", "...ik,kj->...ij", "...ik,...kj", "b...k,...k->b...", "..., f -> ...f"],
)
def test_einsum_with_dots(take, means, equation):
    shapes = {
        "...ik,...kj->...ij": ("2, 3, 4, 5", "3, 5, 6"),
        "...ik,kj->...ij": ("2, 3, 4, 5", "5, 6"),
        "...ik,...kj": ("3, 4, 5", "2, 1, 5, 6"),
        "b...k,...k->b...": ("2, 3, 5", "3, 5"),
        "..., f -> ...f": ("2, 3", "4"),
    }[equation]
    captured = take(
        f"x=float32[{shapes[0]}], y=float32[{shapes[1]}]",
        f"return torch.einsum({equation!r}, x, y)",
        arguments="x, y",
    )
    means(captured, draws=[("normal", 1)])


@pytest.mark.parametrize(
    "cell", ["GRUCell(6, 4)", "GRUCell(6, 4, bias=False)", "RNNCell(6, 4, nonlinearity='relu')"]
)
def test_cells(take, means, cell):
    captured = take(
        "x=float32[3, 6], h=float32[3, 4]", "return self.cell(x, h)", f"self.cell = nn.{cell}",
        "x, h",
    )  # fmt: skip
    means(captured, draws=[("normal", 1)], reach=2e-6)
