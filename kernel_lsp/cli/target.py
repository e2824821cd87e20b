"""What a command works on: ``FILE[::Class]``, or a run by its id."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from search_engine.errors import KernelLspError
from search_engine.store.records import Run
from search_engine.store.store import Store

RUN_HELP = "a run's id or its start, `last`, or FILE[::Class]"


@frozen
class Target:
    """A class in a file as it lies on disk."""

    path: Path
    text: str
    qualname: str | None


def read_target(argument: str) -> Target:
    """``net.py::Net`` or ``net.py``. Raises KernelLspError where the file cannot be read."""
    name, _, qualname = argument.partition("::")
    path = Path(name).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a byte order mark is not Python's
    except OSError as error:
        raise KernelLspError(
            f"{name} cannot be read ({error.strerror}): give the path of a Python file, "
            "with ::Class behind it to choose a class."
        ) from None
    except UnicodeDecodeError:
        raise KernelLspError(f"{name} is not UTF-8 text: save it as UTF-8.") from None
    return Target(path.resolve(), text, qualname or None)


def find_run(store: Store, argument: str) -> Run:
    """A run by id, by the start of an id, ``last``, or the latest of ``FILE[::Class]``.

    Raises KernelLspError where none or several fit.
    """
    ids = store.run_ids()
    if argument == "last" and ids:
        return store.run(ids[0])
    fitting = [run_id for run_id in ids if run_id.startswith(argument)]
    if argument in ids:
        return store.run(argument)
    if len(fitting) == 1:
        return store.run(fitting[0])
    if len(fitting) > 1:
        raise KernelLspError(
            f"{argument!r} fits {len(fitting)} runs: give more of the id "
            f"({', '.join(fitting[:4])}, …)."
        )
    name, _, qualname = argument.partition("::")
    if name.endswith(".py"):
        for run_id in store.run_ids(str(Path(name).expanduser().resolve())):
            run = store.run(run_id)
            if qualname in ("", run.qualname):
                return run
    raise KernelLspError(f"There is no run {argument!r}: `kernel-lsp runs` lists them.")
