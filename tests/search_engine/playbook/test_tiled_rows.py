"""Tiles of neighbouring rows: streamed and held, in packs and alone, against torch in fp64."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas.tile_of_rows import TileOfRows
from search_engine.playbook.ideas.tile_on_chip import TileOnChip

FORWARDS = {
    "softmax": "return x.softmax(1)",
    "logsumexp": "return torch.logsumexp(x, 1)",
    "log_softmax": "return x.log_softmax(1)",
    "moments": "return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()",
    "rms": "return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-5)",
    "places": "return x.max(1)[1], x.sum(1), x.std(1)",
    "by row": "return x.softmax(1) * x[:, 3:4] + x.sum(1, keepdim=True)",
}


def sources(task, held, streamed):
    """Texts of both ideas at the given (warps, vector)."""
    program = analyse(task)
    chip, rows = TileOnChip(), TileOfRows()
    texts = []
    for warps, vector in held:
        variant = Variant.of(warps=warps, vector=vector)
        assert chip.valid(program, variant, H200)
        texts.append(chip.render(program, variant, H200))
    for warps, vector, back in streamed:
        variant = Variant.of(warps=warps, vector=vector, unroll=4, back=back)
        assert rows.valid(program, variant, H200)
        texts.append(rows.render(program, variant, H200))
    return texts


@pytest.mark.parametrize("name", FORWARDS)
def test_tiles_agree(take, agree, name):
    """19 columns leave warps without one, 52 neighbouring rows a tile half empty."""
    captured = take("x=float32[3, 19, 4, 13]", FORWARDS[name])
    agree(captured, sources(captured.task, [(4, 4), (2, 1)], [(8, 2, "yes"), (1, 4, "no")]))


def test_packs_of_halves_and_doubles(take, agree):
    for dtype, vector in (("float16", 8), ("bfloat16", 4), ("float64", 2)):
        captured = take(f"x={dtype}[2, 16, 40]", "return x.softmax(1)")
        agree(captured, sources(captured.task, [(4, vector)], [(4, vector, "yes")]))


def test_a_tile_moves_its_rows_once(take):
    """Held rows are read by one access of the text, streamed ones by two."""
    task = take("x=float32[4, 64, 256]", "return x.softmax(1)").task
    held, streamed = sources(task, [(4, 4)], [(4, 4, "yes")])
    assert held.count("load_pack(") - 1 == 1
    assert streamed.count("load_pack(") - 1 == 2


def test_holding_is_preferred_where_it_saves_a_reading(take):
    program = analyse(take("x=float32[16, 64, 65536]", "return x.softmax(1)").task)
    chip, rows = TileOnChip(), TileOfRows()
    best = [min(idea.seconds(program, v, H200) for v in idea.variants(program, H200))
            for idea in (chip, rows)]  # fmt: skip
    assert best[0] < best[1]
    means = analyse(take("x=float32[16, 64, 65536]", "return x.mean(1)").task)
    assert not chip.applies(means, H200)
    assert rows.applies(means, H200)


def test_rows_that_do_not_coalesce_are_taken_one_by_one(take):
    across = "return x.transpose(1, 2).contiguous().softmax(1)"
    program = analyse(take("x=float32[8, 64, 300]", across).task)
    for idea in (TileOnChip(), TileOfRows()):
        assert {v.number("vector") for v in idea.variants(program, H200)} == {1}


def test_columns_of_several_dimensions_in_another_order(take, agree):
    """Patches of an image, normalised: a column's place has three parts."""
    captured = take(
        "x=float32[2, 3, 8, 16]",
        "x = x.view(2, 3, 2, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).flatten(3)\n"
        "return F.layer_norm(x, (48,))",
    )
    agree(captured, sources(captured.task, [(8, 1), (5, 1)], [(8, 1, "yes"), (5, 1, "no")]))
