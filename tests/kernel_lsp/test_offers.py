"""What can be done with a class, by where it stands."""

from __future__ import annotations

import pytest
from attrs import evolve

from kernel_lsp.modules import ModuleFinder
from kernel_lsp.offers import offers
from kernel_lsp.state import ClassRuns, standing
from search_engine.deliver.delivery import Delivery
from search_engine.settings import SearchSettings
from search_engine.store.records import Run
from search_engine.task import CaptureRequest

NET = "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x): return x\n"
RUN = Run(
    id="r", path="/p/net.py", qualname="Net", fingerprint="f",
    request=CaptureRequest("/p/net.py", NET, "Net"), settings=SearchSettings(),
    status="running", message="", decision="none", round=1, created=0.0, updated=0.0,
    stop_requested=False, task=None, baseline=None, ideas=(), kernels=(),
    winner_id=None, delivery=None, alive=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "lenses"),
    [
        ({}, ["Stop"]),
        ({"stop_requested": True}, []),
        ({"stop_requested": True, "alive": False}, []),
        ({"status": "stopped", "stop_requested": True}, ["Search again"]),
        ({"status": "queued", "alive": False}, ["Stop"]),
    ],
)  # fmt: skip
def test_stop_is_offered_once(known: dict, lenses: list[str]) -> None:
    (module,) = ModuleFinder().find(NET).classes
    found = standing(module, ClassRuns(evolve(RUN, **known), None))
    assert [offer.lens for offer in offers(found)] == lenses


@pytest.mark.parametrize(
    ("known", "lenses"),
    [
        ({}, ["Resume", "Search again"]),
        ({"status": "finished"}, ["Search again"]),
        ({"status": "failed"}, ["Search again"]),
        ({"fingerprint": "of another class"}, ["Search again"]),
        (
            {"delivery": Delivery("Net", "f", {}, "", "@Net_cuda", "t", "r", "s"),
             "decision": "pending"},
            ["Resume", "Show diff", "Accept", "Reject"],
        ),
    ],
)  # fmt: skip
def test_a_stopped_search_can_go_on(known: dict, lenses: list[str]) -> None:
    (module,) = ModuleFinder().find(NET).classes
    run = evolve(RUN, status="stopped", alive=False, fingerprint=module.fingerprint)
    found = standing(module, ClassRuns(evolve(run, **known), None))
    assert [offer.lens for offer in offers(found)] == lenses
