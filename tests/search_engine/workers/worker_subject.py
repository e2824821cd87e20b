"""What the worker's tests run in the child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from search_engine.contract.errors import ContractError
from search_engine.errors import CaptureError, WorkerDied
from search_engine.workers.retire import retire

TORCH_BEFORE_US = "torch" in sys.modules


def refusing():
    raise CaptureError("There is no such class.")


class Subject:
    def __init__(self, start: int) -> None:
        self.total = start

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    def process(self) -> dict:
        import torch

        return {
            "pid": os.getpid(),
            "torch_before_us": TORCH_BEFORE_US,
            "cuda": torch.cuda.is_initialized(),
        }

    def refuse(self) -> None:
        raise CaptureError("forward needs x.")

    def break_contract(self, finding) -> None:
        raise ContractError([finding])

    def divide(self) -> float:
        return 1 / 0

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self) -> None:
        os._exit(3)

    def spawn(self) -> int:
        return subprocess.Popen(["sleep", "600"]).pid

    def hang(self) -> None:
        time.sleep(600)

    def environment(self) -> list[str]:
        at_start = Path("/proc/self/environ").read_text().split("\0")
        return [*at_start, *(f"{name}={value}" for name, value in os.environ.items())]

    def shout(self) -> None:
        print("shouted")
        print("shouted", file=sys.stderr)
        os.write(1, b"shouted\n")

    def fail_quietly(self) -> str:
        retire("the device is gone")
        return "a verdict"

    def fail_then_stumble(self) -> None:
        retire("The device is gone.")
        raise RuntimeError("CUDA error: what follows from it\nand advice\non lines")

    def fill_the_disk(self) -> None:
        Path("/dev/full").write_text("more than there is room for")

    def fail_where_nothing_can_be_logged(self) -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
        raise CaptureError("forward needs x.")

    def stumble(self) -> None:
        raise RuntimeError("the first line\nthe second")

    def device_process_died(self) -> None:
        raise WorkerDied("The runner hung.", timed_out=True)

    def unpicklable(self):
        return lambda: None
