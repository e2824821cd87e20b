"""``python -m search_engine``: what the server and the command line start as a process.

``search`` brings a run of the store to its end. ``verify`` and ``doctor`` print one JSON
document, ``{"error": sentence}`` where they cannot do what was asked.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_engine import serial
from search_engine.errors import KernelLspError
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m search_engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    search = commands.add_parser("search", help="bring a run to its end")
    search.add_argument("run_id")
    search.add_argument("--store", type=Path, help="the database (default: the user's own)")

    defaults = SearchSettings()
    verify = commands.add_parser("verify", help="the verdict on one .cu file, as JSON")
    verify.add_argument("--file", required=True, type=Path)
    verify.add_argument("--class", dest="qualname")
    verify.add_argument("--kernel", required=True, type=Path)
    verify.add_argument("--device", default=defaults.device)
    verify.add_argument("--target", default=defaults.target)
    verify.add_argument("--import-timeout", type=float, default=defaults.import_timeout)
    verify.add_argument("--kernel-timeout", type=float, default=defaults.kernel_timeout)
    verify.add_argument("--unguarded", action="store_true")

    commands.add_parser("doctor", help="what is found on this machine, as JSON")
    return parser


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KernelLspError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise KernelLspError(f"{path} is no UTF-8 text.") from None


def _verify(options: argparse.Namespace) -> tuple[Any, int]:
    """The verdict on a file written by hand, by the way that a search takes."""
    from search_engine.search.worker_bench import WorkerBench

    settings = SearchSettings(
        device=options.device,
        target=options.target,
        import_timeout=options.import_timeout,
        kernel_timeout=options.kernel_timeout,
        unguarded=options.unguarded,
    )
    request = CaptureRequest(
        path=str(options.file.absolute()),
        text=_read(options.file),
        qualname=options.qualname,
        target=options.target,
        import_timeout=options.import_timeout,
    )
    source = _read(options.kernel)
    bench = WorkerBench(request, settings)
    try:
        task = bench.capture()
        judgement = bench.verify(source)
        estimate = None
        if judgement.verdict.accepted and not bench.device().measures:
            estimate = bench.estimate(source)
    finally:
        bench.close()
    answer = {
        "class": task.qualname,
        "verdict": judgement.verdict,
        "builds": list(judgement.builds),
        "estimate": estimate,
        "limit_seconds": task.limit_seconds,
    }
    return answer, 0 if judgement.verdict.accepted else 1


def _doctor() -> tuple[Any, int]:
    from search_engine import doctor

    report = doctor.report()
    return report, 0 if report.usable else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if options.command == "search":
        from search_engine.search import process

        try:
            return process.main(options.run_id, options.store)
        except KernelLspError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
    try:
        answer, code = _verify(options) if options.command == "verify" else _doctor()
    except KernelLspError as error:
        answer, code = {"error": str(error)}, error.exit_code
    sys.stdout.write(serial.dumps(answer) + "\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
