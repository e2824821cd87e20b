"""What other processes do to a store, as a script: ``writer.py STORE WHAT [ARGUMENT]``."""

from __future__ import annotations

import sys
from pathlib import Path

from search_engine.proposers._base import Branch, Idea
from search_engine.settings import SearchSettings
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

REQUEST = CaptureRequest(path="/project/net.py", text="class Net: ...", qualname="Net")


def start(store: Store, fingerprint: str = "f", path: str = "/project/net.py") -> tuple[str, bool]:
    request = CaptureRequest(path=path, text="class Net: ...", qualname="Net")
    return store.start_run(request, "Net", fingerprint, SearchSettings())


def write_on(store: Store, run_id: str) -> None:
    """Rounds of four ideas, each with five branches, until killed."""
    first = max((r.round for r in store.run(run_id).ideas), default=0) + 1
    for number in range(first, 10**6):
        ideas = [Idea(f"idea {number}.{i}", "r" * 2000, "memory access", None) for i in range(4)]
        store.add_ideas(run_id, number, "p", ideas)
        for record in store.run(run_id).ideas[-4:]:
            branches = [Branch("s" * 4000, str(i)) for i in range(5)]
            store.add_branches(run_id, record.id, branches)


if __name__ == "__main__":
    where, what, *rest = sys.argv[1:]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # all writers begin at once
    with Store(Path(where)) as opened:
        if what == "start":
            answer = "{} {}".format(*start(opened))
        elif what == "claim":
            answer = str(opened.claim(rest[0], rest[1]))
        elif what == "events":
            for number in range(int(rest[1])):
                opened.add_event(rest[0], "notice", f"{rest[2]} {number}")
            answer = "done"
        else:
            write_on(opened, rest[0])
            answer = "never"
    sys.stdout.write(answer + "\n")
