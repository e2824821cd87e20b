"""Differences of quotients of statistics: 1 − cos of nearly parallel rows keeps its digits."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook import catalogue

COSINE = "return torch.mean(1 - F.cosine_similarity(x, y, dim=1))"


@pytest.fixture
def cosine(take):
    return take("x=float32[128, 4096], y=float32[128, 4096]", COSINE, arguments="x, y")


def test_one_minus_cosine_of_nearly_parallel_rows(cosine, agree):
    """In floats every row's quotient is rounded the same way: 2.4% off, eager 0.4%."""
    candidates = catalogue.candidates(cosine.task, H200)
    keys = {candidate.key.split(":")[-1].split("+")[0]: candidate for candidate in candidates}
    assert {"row_on_chip", "block_per_row"} <= set(keys)
    agree(cosine, [c.render(c.variants()[0]) for c in keys.values()], draws=[("mean1000", 2)])


def test_no_stage_ends_between_a_quotient_and_its_difference(cosine):
    for candidate in catalogue.candidates(cosine.task, H200):
        source = candidate.render(candidate.variants()[0])
        assert "double row_sum" in source, candidate.key


def test_quotients_alone_stay_in_floats(take):
    task = take("x=float32[64, 4096], y=float32[64, 4096]",
                "return F.cosine_similarity(x, y, dim=1)", arguments="x, y").task  # fmt: skip
    for candidate in catalogue.candidates(task, H200):
        assert "double" not in candidate.render(candidate.variants()[0])
