"""Commands run in parallel by ninja, within limits and without the user's environment."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TypeAlias

from search_engine.errors import SetupError

COMPILER_SECONDS = 30  # of CPU time, for one step
COMPILER_BYTES = 4 * 2**30
OUTPUT_BYTES = 256 * 2**20

# An output's path, to the command that makes it and the outputs that the command needs.
Rules: TypeAlias = "dict[str, tuple[list[str], list[str]]]"


def _ninja_program() -> str:
    try:
        import ninja
    except ImportError:
        program = shutil.which("ninja")
    else:
        program = shutil.which("ninja", path=ninja.BIN_DIR) or shutil.which("ninja")
    if program is None:
        raise SetupError("The build tool ninja is not found: run `pip install ninja`.")
    return program


def _escape(text: str) -> str:
    return text.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def run_rules(folder: Path, rules: Rules) -> None:
    """Run commands in parallel; ``rules`` maps an output to its command and inputs.

    A failed command leaves its log and no output. Everything ends with the call.
    """
    if not rules:
        return
    text = ["rule run", "  command = $cmd", ""]
    for output, (command, inputs) in rules.items():
        line = f"{shlex.join(command)} > {shlex.quote(output + '.log')} 2>&1"
        text += [f"build {_escape(output)}: run {' '.join(map(_escape, inputs))}"]
        text += [f"  cmd = {line.replace('$', '$$')}", ""]
    (folder / "build.ninja").write_text("\n".join(text))
    limits = (
        f"ulimit -c 0; ulimit -t {COMPILER_SECONDS}; ulimit -v {COMPILER_BYTES // 1024}; "
        f'ulimit -f {OUTPUT_BYTES // 512}; exec "$@"'
    )
    command = ["/bin/sh", "-c", limits, "sh", _ninja_program(), "-k", "0"]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": str(folder)}
    if "HOME" in os.environ:  # where zig keeps its cache
        environment["HOME"] = os.environ["HOME"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(timeout=COMPILER_SECONDS * (2 + len(rules)))
    except subprocess.TimeoutExpired:
        pass  # what is there is taken, the rest has no output
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
