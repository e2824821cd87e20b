"""Integers among the outputs: exact, but for places of values that rounding may swap."""

import importlib.util
from pathlib import Path

import pytest
import torch

from search_engine.verify.indices import Place, Places, as_right
from search_engine.verify.verify import verify

spec = importlib.util.spec_from_file_location(
    "fake_device", Path(__file__).with_name("fake_device.py")
)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

# Sums of the same numbers in another order each: which is largest is a matter of rounding.
SUMS = """
class Net(nn.Module):
    def forward(self, x): return {forward}
def get_inputs():
    x = torch.randn(32, 1, 300)
    return [torch.stack([x[:, 0, torch.randperm(300)] for _ in range(8)], 1)]
"""
DIRECT = """
# kernel-lsp: x=float32[64, 200]
class Net(nn.Module):
    def forward(self, x): return {forward}
"""


def verdict(captured, function):
    return verify(captured, fake.kernel(function), fake.FakeDevice(), seed=1)


def backwards(x):
    """The sums in another order, as a kernel would have them."""
    return x.flip(2).cumsum(2)[..., -1]


@pytest.mark.parametrize(
    ("forward", "kernel"),
    [
        ("x.sum(2).argmax(1)", lambda t, o: backwards(t["x"]).argmax(1)),
        ("x.sum(2).argmin(1, keepdim=True)", lambda t, o: backwards(t["x"]).argmin(1, True)),
        ("x.sum(2).argmax()", lambda t, o: backwards(t["x"]).argmax()),
        (
            "x.sum(2).max(1)",
            lambda t, o: dict(zip(("out.0", "out.1"), backwards(t["x"]).max(1), strict=True)),
        ),
    ],
)
def test_rounding_may_swap_what_lies_within_it(module, forward, kernel):
    captured = module(SUMS.format(forward=forward))
    found = verdict(captured, kernel)
    assert found.accepted, found.reason
    call = captured.draw(0)
    (name,) = [t.name for t in captured.task.outputs if t.dtype == "int64"]
    got = kernel({"x": call.args[0]}, {})
    got = got[name] if isinstance(got, dict) else got
    if got.numel() > 1:  # one index may agree by luck
        assert not torch.equal(got, captured.run(call)[name])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t, o: (backwards(t["x"]).argmax(1) + 1) % 8,
        lambda t, o: backwards(t["x"]).bfloat16().argmax(1),
        lambda t, o: backwards(t["x"]).argmax(1) - 8,
        lambda t, o: torch.zeros(32, dtype=torch.int64),
    ],
)
def test_another_index_is_wrong(module, wrong):
    found = verdict(module(SUMS.format(forward="x.sum(2).argmax(1)")), wrong)
    assert not found.accepted
    assert "integers of out are wrong" in found.reason


@pytest.mark.parametrize(
    ("kernel", "accepted"),
    [
        (lambda t, o: t["x"].argmax(1), True),
        (lambda t, o: 199 - t["x"].flip(1).argmax(1), False),  # the last of equal ones
        (lambda t, o: t["x"].bfloat16().argmax(1), False),
    ],
)
def test_of_inputs_the_index_is_exact(module, kernel, accepted):
    found = verdict(module(DIRECT.format(forward="x.argmax(1)")), kernel)
    assert found.accepted is accepted, found.reason


def test_other_integers_are_exact(module):
    captured = module(DIRECT.format(forward="(x > 0).sum(1), x > 0"))
    for off, accepted in ((0, True), (1, False)):
        found = verdict(
            captured,
            lambda t, o, off=off: {"out.0": (t["x"] > 0).sum(1) + off, "out.1": t["x"] > 0},
        )
        assert found.accepted is accepted


def test_equal_values_keep_their_order():
    values = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    place, rough = Place(values.double(), 1), Place(values + 1e-3, 1)
    eager = torch.tensor([1])
    assert not as_right(torch.tensor([2]), eager, rough, place)
    nearly = Place(torch.tensor([[1.0, 3.0, 2.999, 2.0]]).double(), 1)
    assert as_right(torch.tensor([2]), eager, rough, nearly)
    assert not as_right(torch.tensor([3]), eager, rough, nearly)
    assert not as_right(torch.tensor([2]), eager, Place(nearly.values.float(), 1), nearly)


def test_places_are_found_behind_views():
    x = torch.randn(4, 5)
    with Places() as places:
        kept = x.argmax(1, keepdim=True).squeeze(1)
        largest, index = x.max(0)
        other = x.argsort(1)
        whole = x.max()
    found = places.of({"a": kept, "b": index, "c": other, "d": largest, "e": whole})
    assert {name: place.dim for name, place in found.items()} == {"a": 1, "b": 0}
