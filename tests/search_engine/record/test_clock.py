"""Shares of a step, with a clock that the test moves."""

import pytest

from search_engine.record.inside import clock as clock_module
from search_engine.record.inside.clock import GAP, WARM_STEPS, WINDOW_STEPS, Clock


class Event:
    """A CUDA event on a GPU that runs a fixed time behind."""

    now = 0.0
    passed = True

    def __init__(self):
        self.at = Event.now

    def query(self):
        return Event.passed

    def synchronize(self):
        Event.passed = True

    def elapsed_time(self, other):
        return (other.at - self.at) * 1e3


@pytest.fixture
def time(monkeypatch):
    class Time:
        now = 100.0

        def perf_counter(self):
            return self.now

        def monotonic(self):
            return self.now

    moved = Time()
    monkeypatch.setattr(clock_module, "time", moved)
    monkeypatch.setattr(clock_module, "_event", lambda: None)
    return moved


@pytest.fixture
def gpu(monkeypatch):
    Event.now, Event.passed = 0.0, True
    monkeypatch.setattr(clock_module, "_event", Event)
    return Event


def calls(time, clock, times, seconds, inside=lambda: None):
    """One call: ``seconds`` of its own, and what is inside it."""
    token = None if clock.idle else clock.enter(times)
    time.now += seconds
    inside()
    clock.leave(token)


def train(time, clock, net, block, steps, forward=1.0, inner=2.0, rest=5.0):
    for _ in range(steps):
        calls(time, clock, net, forward, lambda: calls(time, clock, block, inner))
        time.now += rest


def test_inclusive_and_self_time_over_the_step(time):
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()
    train(time, clock, net, block, WARM_STEPS, forward=50.0)  # warming up counts for nothing
    train(time, clock, net, block, WINDOW_STEPS + 1)
    clock.finish()
    assert clock.steps == WINDOW_STEPS
    assert clock.wall == pytest.approx(8.0 * WINDOW_STEPS)
    assert net.cpu / clock.wall == pytest.approx(3 / 8)
    assert net.cpu_self / clock.wall == pytest.approx(1 / 8)
    assert block.cpu / clock.wall == pytest.approx(2 / 8)
    assert net.timed == block.timed == WINDOW_STEPS


def test_most_steps_of_a_long_run_are_not_timed(time):
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()
    train(time, clock, net, block, 20_000)
    clock.finish()
    assert 20_000 // clock.steps > GAP
    assert net.cpu / clock.wall == pytest.approx(3 / 8)
    assert clock.roots == 20_000


def test_a_short_run_counts_what_there_is(time):
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()
    train(time, clock, net, block, 1)
    clock.finish()
    # Where the step ends is not known: it ends with its forward.
    assert (clock.wall, net.cpu, clock.steps) == (pytest.approx(3.0), pytest.approx(3.0), 1)


def test_a_class_within_itself_counts_once(time):
    clock = Clock(lambda: None)
    tree = clock.times()
    calls(time, clock, tree, 1.0, lambda: calls(time, clock, tree, 1.0))
    clock.finish()
    assert tree.cpu == pytest.approx(2.0)
    assert tree.cpu_self == pytest.approx(2.0)


def test_a_call_that_raises_is_ended_too(time):
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()
    for _ in range(WARM_STEPS + WINDOW_STEPS + 1):
        token = clock.enter(net)
        inner = clock.enter(block)
        time.now += 1.0
        clock.leave(inner)
        clock.leave(token)
    clock.finish()
    assert net.cpu == pytest.approx(clock.wall)


def test_calls_of_other_threads_are_left_alone(time):
    import threading

    clock = Clock(lambda: None)
    net, other = clock.times(), clock.times()

    def beside():
        clock.leave(clock.enter(other))

    def inside():
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    calls(time, clock, net, 1.0, inside)
    clock.finish()
    assert (net.timed, other.timed) == (1, 0)


def test_on_a_gpu_its_own_clock_counts_and_nothing_waits(time, gpu):
    """The host needs a second for each launch, the GPU three for the net's and one for the rest."""
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()

    def inner():
        time.now += 1.0
        gpu.now += 2.0

    def step():
        token = None if clock.idle else clock.enter(net)
        gpu.now += 1.0
        calls(time, clock, block, 0.0, inner)
        clock.leave(token)
        gpu.now += 1.0

    gpu.passed = False
    for _ in range(WARM_STEPS + WINDOW_STEPS + 2):
        step()
    assert (clock.gpu, net.gpu) == (0.0, 0.0)  # the GPU is not there yet, nobody waited
    clock.finish()
    assert clock.gpu == pytest.approx(4.0 * WINDOW_STEPS)
    assert net.gpu / clock.gpu == pytest.approx(3 / 4)
    assert net.gpu_self / clock.gpu == pytest.approx(1 / 4)
    assert block.gpu / clock.gpu == pytest.approx(2 / 4)


def test_events_that_cannot_be_compared_disturb_nobody(time, gpu, monkeypatch):
    def refuse(self, other):
        raise RuntimeError("the events are of two GPUs")

    monkeypatch.setattr(gpu, "elapsed_time", refuse)
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()
    train(time, clock, net, block, 200)
    clock.finish()
    assert (clock.gpu, net.gpu) == (0.0, 0.0)
    assert net.cpu / clock.wall == pytest.approx(3 / 8)


def test_a_step_of_many_calls_is_timed_alone(time):
    clock = Clock(lambda: None)
    net, block = clock.times(), clock.times()

    def many():
        for _ in range(clock_module.MOST_TIMED):
            calls(time, clock, block, 0.001)

    for _ in range(WARM_STEPS + 2):
        calls(time, clock, net, 1.0, many)
    clock.finish()
    assert clock.steps == 1
