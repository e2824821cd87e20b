"""Find out what values a module takes, before a kernel is judged on them.

Integers drawn at random within their range may be no valid input (offsets must rise), and
random parameters no valid state. One run tells; what does not work is kept as the user
has it, with a note.
"""

from __future__ import annotations

import attrs
import torch

from search_engine.capture.captured import Captured, state_of
from search_engine.capture.values import DOMAINS, Domain
from search_engine.errors import CaptureError

_SMALL_FLOPS = 2 * 10**10  # about a second of eager on two cores
_SMALL_ELEMENTS = 2**24
_SEED = 1


def probe(captured: Captured, *, dynamic: str | None) -> None:
    """Set ``own_integers``, ``accepts`` and ``keep_state`` of ``captured``, and its task's notes.

    ``dynamic`` is an operator whose result's shape depends on values. Raises CaptureError
    where the outputs' shapes do.
    """
    elements = max((t.numel for t in captured.task.tensors), default=0)
    small = captured
    if captured.task.flops > _SMALL_FLOPS or elements > _SMALL_ELEMENTS:
        small = captured.at_leading(max(1, captured.leading // 64)) or captured
    expected = {t.name: t.shape for t in small.task.outputs}

    def works() -> bool:
        try:
            outputs = small.run(small.draw(_SEED, "uniform", "unit"))
        except Exception:  # noqa: BLE001 (whatever forward raises on values it cannot take)
            return False
        if dynamic and {n: tuple(t.shape) for n, t in outputs.items()} != expected:
            raise CaptureError(
                f"The shape of the output depends on the data ({dynamic}): a kernel needs fixed "
                "shapes."
            )
        return all(not bool(t.isnan().any()) for t in outputs.values())

    discrete = any(not t.is_floating_point() for t in small.tensors(small.draw(_SEED)).values())
    if (discrete or dynamic) and not works():
        small.own_integers = captured.own_integers = True
    captured.accepts = small.accepts = _domain(small)
    if any(tensor.is_floating_point() for _, tensor in state_of(captured.module).values()):
        usual = works()
        small.randomise(_SEED)
        if usual and not works():
            captured.keep_state = True
            captured.task = attrs.evolve(
                captured.task,
                notes=(
                    *captured.task.notes,
                    "parameters and buffers stay as they are: forward fails on others",
                ),
            )
        small.restore()
    captured._reduced.clear()
    if captured.device.startswith("cuda"):
        torch.cuda.empty_cache()


def _domain(captured: Captured) -> Domain:
    """The widest domain that forward does not refuse.

    On a GPU such a refusal is an assertion in a kernel, after which the process is lost; so
    it must be known before.
    """
    for domain in DOMAINS[:-1]:
        try:
            captured.run(captured.draw(_SEED, "normal", domain))
        except RuntimeError:
            continue
        return domain
    return DOMAINS[-1]
