"""Several processes on one store, some of which are killed."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from writer import start

from search_engine.store.store import Store

WRITER = Path(__file__).with_name("writer.py")


def spawn(path, *arguments):
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def go(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def answers(processes):
    go(processes)
    found = [p.communicate()[0].strip() for p in processes]
    assert [p.returncode for p in processes] == [0] * len(processes)
    return found


def test_a_search_is_started_once_and_held_once(path):
    """Also the first opening: all create the database at the same moment."""
    found = answers([spawn(path, "start") for _ in range(4)])
    ids = {answer.split()[0] for answer in found}
    assert len(ids) == 1
    assert sorted(answer.split()[1] for answer in found) == ["False"] * 3 + ["True"]
    run_id = ids.pop()
    claimed = answers([spawn(path, "claim", run_id, f"owner {n}") for n in range(4)])
    assert sorted(claimed) == ["False"] * 3 + ["True"]


def test_concurrent_writers_lose_nothing(path):
    with Store(path) as store:
        run_id, _ = start(store)
    answers([spawn(path, "events", run_id, "40", f"w{n}") for n in range(3)])
    with Store(path) as store:
        messages = [e.message for e in store.events(run_id)]
    assert sorted(messages) == sorted(f"w{n} {i}" for n in range(3) for i in range(40))
    for n in range(3):  # each writer's own lines in its order
        own = [m for m in messages if m.startswith(f"w{n}")]
        assert own == [f"w{n} {i}" for i in range(40)]


def test_killed_during_a_write_leaves_whole_writes_only(path):
    with Store(path) as store:
        run_id, _ = start(store)
    chance = random.Random(7)
    for _ in range(5):
        process = spawn(path, "write", run_id)
        go([process])
        time.sleep(0.1 + 0.15 * chance.random())
        process.kill()
        process.wait()
        with Store(path) as store:
            run = store.run(run_id)
        for record in run.ideas:
            assert len(run.kernels_of(record)) == (5 if record.branched else 0)
        rounds = [record.round for record in run.ideas]
        assert all(rounds.count(number) == 4 for number in set(rounds))
    assert len(run.kernels) > 20  # the writers did get somewhere
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
