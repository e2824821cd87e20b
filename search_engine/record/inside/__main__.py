"""Runs a script, module or command as Python itself would, with the recorder in place.

``python [OPTIONS] …/inside/__main__.py SNAPSHOT script|module|command TARGET [ARGUMENTS]``.
What was recorded goes to the file SNAPSHOT. Exit code, output, tracebacks and signals are
the script's own.
"""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import sys
import types
import zipfile
from pathlib import Path
from types import TracebackType

_NAME = "_kernel_lsp_recorder"  # under which this folder is imported: nobody's own name
_HERE = str(Path(__file__).parent)


def _load() -> types.ModuleType:
    """The recorder's modules, without their folder or ours on ``sys.path``."""
    spec = importlib.util.spec_from_file_location(
        _NAME, f"{_HERE}/__init__.py", submodule_search_locations=[_HERE]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return importlib.import_module(f"{_NAME}.recorder")


def _run(kind: str, target: str, arguments: list[str]) -> None:
    """What ``python TARGET``, ``python -m TARGET`` or ``python -c TARGET`` does."""
    main = types.ModuleType("__main__")
    first = {"script": str(Path(target).parent.absolute()), "module": str(Path.cwd())}.get(kind, "")
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        # Python put the recorder's folder there, as that of the script it was told to run.
        sys.path[0] = first
    sys.modules["__main__"] = main
    if kind == "module":
        sys.argv = ["-m", *arguments]
        runpy._run_module_as_main(target)  # type: ignore[attr-defined]  # what `python -m` calls
        return
    if kind == "script" and Path(target).suffix != ".py" and _has_main(target):
        sys.argv, sys.path[0] = [target, *arguments], str(Path(target).absolute())
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    main.__dict__.update(__builtins__=__builtins__, __annotations__={})
    if kind == "command":
        sys.argv = ["-c", *arguments]
        code = compile(target, "<string>", "exec", dont_inherit=True)
    else:
        sys.argv = [target, *arguments]
        path = str(Path(target).absolute())  # as __file__ is since Python 3.9
        main.__dict__.update(__file__=path, __cached__=None)
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - the user's own script, as they asked for


def _has_main(target: str) -> bool:
    """Whether the target is a folder or a zip file, which Python runs by its ``__main__``."""
    return Path(target).is_dir() or zipfile.is_zipfile(target)


def _untraced(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the script's first frame on."""
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith(_HERE) and "runpy" not in name:
            return traceback
        traceback = traceback.tb_next
    return None


def _hide_our_frames() -> None:
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        tb = _untraced(tb)
        previous(kind, error.with_traceback(tb), tb)

    sys.excepthook = hook


def main() -> None:
    """Record, run, and write down what was seen, however the script ends."""
    snapshot, kind, target, *arguments = sys.argv[1:]
    os.environ.pop("KERNEL_LSP_RECORDING", None)
    recorder = _load().start(Path(snapshot))
    try:
        _run(kind, target, arguments)
    except SystemExit:
        raise
    except BaseException:
        _hide_our_frames()
        raise
    finally:
        recorder.finish()


if __name__ == "__main__":
    main()
