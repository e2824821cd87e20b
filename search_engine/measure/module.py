"""A delivered module beside what it replaces: in GPU time, and called alone from Python."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from search_engine.capture.captured import Captured
from search_engine.devices._base import Device
from search_engine.judgement import DeliveredTimes, SideBySide
from search_engine.measure.compiled import MODES
from search_engine.measure.session import session_of
from search_engine.verdict import Sample


def measure_delivered(
    captured: Captured, module: torch.nn.Module, device: Device
) -> DeliveredTimes:
    """Times of ``module``, the captured one as delivered, and of the baselines.

    GPU time is taken as a bare kernel's is, so that the two can be compared. Raises
    SetupError on a device without times.
    """
    session = session_of(captured, device)
    contenders = {"delivered": session.contender(module), **session.baselines()}
    with torch.no_grad(), torch.cuda.device(device.torch_device):
        gpu = session.timer.interleave(contenders)
        alone = session.timer.interleave_alone(contenders)
    return DeliveredTimes(_side_by_side(gpu), _side_by_side(alone))


def _side_by_side(samples: Mapping[str, Sample]) -> SideBySide:
    compiled = [samples[mode] for mode in MODES if mode in samples]
    fastest = min(compiled, key=lambda sample: sample.median, default=None)
    return SideBySide(samples["delivered"], samples["eager"], fastest)
