import pytest
from fake_search import TASK

from search_engine.contract.kernel import Plan, ResolvedLaunch, ResolvedScratch
from search_engine.hardware import H200
from search_engine.search.forecast import forecast, occupancy
from search_engine.verdict import BuildInfo


def launch(blocks=10_000, threads=256, shared=0, function="run"):
    return ResolvedLaunch(function, (blocks, 1, 1), (threads, 1, 1), shared, (), False, None, 1)


def plan(*launches, scratch=()):
    return Plan(tuple(launches), tuple(scratch))


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks"),
    [
        (256, 32, 0, 8),  # 2048 threads
        (1024, 64, 0, 1),  # 65536 registers
        (1024, 65, 0, 0),  # one warp's registers more than there are
        (32, 32, 0, 32),  # blocks
        (128, 32, 100_000, 2),  # shared memory, 1 kB of it reserved for each block
        (128, 33, 0, 12),  # registers are given out by 256 per warp
    ],
)
def test_occupancy(threads, registers, shared, blocks):
    found = occupancy(launch(threads=threads, shared=shared), H200, registers)
    assert (found.blocks, found.warps) == (blocks, blocks * threads // 32)


def order(*plans, builds=()):
    times = [forecast(one, TASK, H200, builds) for one in plans]
    assert times == sorted(times)
    assert times[0] < times[-1]


def test_full_warps_enough_of_them_and_a_busy_chip_come_first():
    order(plan(launch(threads=256)), plan(launch(threads=250)))
    order(plan(launch(1320, 128)), plan(launch(132, 128)), plan(launch(40, 128)))
    order(plan(launch(132 * 8)), plan(launch(132 * 8 + 1)))  # one block too many for a wave


def test_registers_of_a_compiled_configuration_count():
    builds = [BuildInfo("run", registers=200)]
    assert forecast(plan(launch(threads=512)), TASK, H200, builds) is None
    order(plan(launch(threads=32)), plan(launch(threads=32, shared=100_000)), builds=builds)


def test_scratch_is_written_and_read():
    partial = ResolvedScratch("partial", "float32", (2**20,), False, 1)
    order(plan(launch()), plan(launch(), scratch=[partial]))
    order(plan(launch()), plan(launch(), launch()))
