"""Timing on the GPU: contenders interleaved in random order, caches cold, queues full."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from attrs import field, mutable

from search_engine.measure.statistics import sample_of
from search_engine.verdict import Sample

if TYPE_CHECKING:
    from search_engine.devices.cuda.device import CudaDevice

FLUSH_TIMES_L2 = 4
WARM_UPS = 3
LEAST_ROUNDS, MOST_ROUNDS = 15, 60
BUDGET_SECONDS = 0.6  # of GPU time for one session's rounds


@mutable
class Contender:
    """What is timed. ``prepare`` runs before each launch, outside the timer, on the stream.

    Both are given the number of the turn, so that inputs and addresses can change with it.
    """

    run: Callable[[int], object]
    prepare: Callable[[int], object] = field(default=lambda turn: None)


class Timer:
    """Times contenders on one GPU."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        size = FLUSH_TIMES_L2 * max(device.facts.l2_bytes, 2**24)
        self._flush = torch.zeros(size // 4, dtype=torch.float32, device=device.torch_device)

    def interleave(
        self, contenders: Mapping[str, Contender], *, budget: float = BUDGET_SECONDS
    ) -> dict[str, Sample]:
        """The time of each contender's ``run``, in seconds of GPU time.

        Every round takes all of them in a new random order. Before each timed run L2 is
        filled with other data, and the stream is kept busy for as long as the host needs
        to enqueue the run, so that gaps of the host are in nobody's time.
        """
        waits: dict[str, float] = {}
        once = 0.0
        for name, contender in contenders.items():
            host, total = self._warm_up(contender)
            waits[name] = 1.5 * host + 20e-6
            once += total + waits[name]
        rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(budget / once)))

        events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {
            name: [] for name in contenders
        }
        order = list(contenders)
        for turn in range(rounds):
            random.shuffle(order)
            for name in order:
                contender = contenders[name]
                contender.prepare(turn)
                events[name].append(self._timed(contender, turn, waits[name]))
        self._device.synchronize()
        return {
            name: sample_of([start.elapsed_time(end) * 1e-3 for start, end in pairs])
            for name, pairs in events.items()
        }

    def interleave_alone(
        self, contenders: Mapping[str, Contender], *, budget: float = BUDGET_SECONDS
    ) -> dict[str, Sample]:
        """Wall time from calling each ``run`` until the GPU has finished, in seconds.

        As in ``interleave``, but the GPU is idle at the call: launch costs are in it.
        """
        once = sum(sum(self._warm_up(contender)) for contender in contenders.values())
        rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(budget / once)))
        times: dict[str, list[float]] = {name: [] for name in contenders}
        order = list(contenders)
        for turn in range(rounds):
            random.shuffle(order)
            for name in order:
                contenders[name].prepare(turn)
                self.flush()
                self._device.synchronize()
                started = time.perf_counter()
                contenders[name].run(turn)
                self._device.synchronize()
                times[name].append(time.perf_counter() - started)
        return {name: sample_of(seconds) for name, seconds in times.items()}

    def flush(self) -> None:
        """Fill L2 with data that nobody wants; persisting lines become normal ones first.

        By reading: lines that were written would go back to DRAM during the timed run.
        """
        self._device.reset_persisting_l2()
        self._flush.sum()

    def _timed(
        self, contender: Contender, turn: int, wait: float
    ) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(wait * self._device.facts.clock_hz))
        self.flush()
        start.record()
        contender.run(turn)
        end.record()
        return start, end

    def _warm_up(self, contender: Contender) -> tuple[float, float]:
        """Seconds the host needs to enqueue a run, and of everything round one run."""
        host = total = float("inf")
        for turn in range(WARM_UPS):
            self._device.synchronize()
            started = time.perf_counter()
            contender.prepare(turn)
            self.flush()
            before = time.perf_counter()
            contender.run(turn)
            host = min(host, time.perf_counter() - before)
            self._device.synchronize()
            total = min(total, time.perf_counter() - started)
        return host, total
