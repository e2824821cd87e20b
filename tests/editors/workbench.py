"""A real VS Code: code-server with our extension, in a headless Chromium that a test drives."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from install import CODE_SERVER, NODE, VSIX
from playwright.sync_api import Locator, Page, expect, sync_playwright

PATIENCE = 120.0  # seconds for what takes one or two on a quiet machine
_POLL_SECONDS = 0.1
SECTION = "kernel-lsp"  # of our settings

# A window without what a first start shows, drawn the same on every machine.
QUIET: dict[str, Any] = {
    "chat.disableAIFeatures": True,
    "editor.fontFamily": "DejaVu Sans Mono",
    "editor.minimap.enabled": False,
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "extensions.ignoreRecommendations": True,
    "git.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "window.commandCenter": False,
    "window.menuBarVisibility": "compact",
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.layoutControl.enabled": False,
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
}


def chromium() -> str | None:
    """Debian's Chromium, or Google's build of it."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def write_settings(user: Path, settings: dict[str, Any], section: str = SECTION) -> None:
    """Settings into those of the machine: paths are not taken from the user's."""
    file = user / "Machine" / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else {}
    changed = {f"{section}.{key}": value for key, value in settings.items()}
    file.write_text(json.dumps(known | changed, indent=2))


class Workbench:
    """One window on one folder."""

    def __init__(self, page: Page, user: Path, pictures: Path | None) -> None:
        self.page = page
        self._user = user
        self._pictures = pictures
        self._taken = 0

    # --- files and settings ---------------------------------------------------------------

    def open(self, name: str) -> None:
        """Open a file of the folder by its name, as a user would."""
        self._quick_input("Control+p", name, name)
        tab = self.page.get_by_role("tab", name=name, exact=True, selected=True)
        expect(tab).to_be_visible()

    def set(self, section: str = SECTION, **settings: Any) -> None:
        """Change settings of a section, ours by default; VS Code watches the file."""
        write_settings(self._user, settings, section)

    # --- what is on the screen ------------------------------------------------------------

    @property
    def lens(self) -> str:
        """The code lenses as drawn, those of a line as one text."""
        texts = self.page.locator(".codelens-decoration").all_inner_texts()
        return " / ".join(" ".join(text.split()) for text in texts)

    @property
    def status(self) -> str:
        """The text of the item of the running searches, empty where there is none."""
        item = self.page.locator('[id="kernel-lsp.kernel-lsp.kernelLsp.searches"]')
        return " ".join(item.inner_text().split()) if item.is_visible() else ""

    @property
    def notifications(self) -> list[str]:
        """The notifications that are up."""
        return self.page.locator(".notification-list-item-message").all_inner_texts()

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition; a failure says what the window shows."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.picture("failed")
                raise AssertionError(
                    f"{what} did not come; lens {self.lens!r}, {self.notifications}"
                )
            self.page.wait_for_timeout(1000 * _POLL_SECONDS)

    def until_lens(self, *parts: str, seconds: float = PATIENCE) -> None:
        """Wait for lenses with all these words."""
        self.until(lambda: all(part in self.lens for part in parts), f"lens {parts}", seconds)

    def picture(self, name: str) -> None:
        """A screenshot among the test's pictures, numbered in the order of the steps."""
        if self._pictures is not None:
            self._taken += 1
            self._pictures.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self._pictures / f"{self._taken:02d}-{name}.png")

    # --- what a user does -----------------------------------------------------------------

    def click_lens(self, title: str) -> None:
        """Click a lens. One that is drawn anew under the mouse is clicked again."""
        self.page.locator(".codelens-decoration a", has_text=title).first.click()

    def command(self, title: str) -> None:
        """Run a command from the palette."""
        self._quick_input("F1", f">{title}", title)

    def choose(self, text: str) -> None:
        """Take the entry with this text from the list that is open."""
        entry = self.page.locator(".quick-input-list .monaco-list-row", has_text=text).first
        entry.click()

    def hover(self, word: str) -> Locator:
        """The hover over the first occurrence of a word in the editor."""
        place = self.page.locator(".view-line span", has_text=re.compile(rf"^\s*{word}")).last
        place.hover()
        shown = self.page.locator(".monaco-hover:visible .hover-contents").first
        expect(shown).to_be_visible()
        return shown

    def _quick_input(self, key: str, text: str, entry: str) -> None:
        field = self.page.locator(".quick-input-widget input.input")
        self.page.keyboard.press(key)
        expect(field).to_be_visible()
        field.fill(text)
        row = self.page.locator(".quick-input-list .monaco-list-row.focused", has_text=entry)
        expect(row).to_be_visible()
        self.page.keyboard.press("Enter")
        expect(row).to_be_hidden()  # the command may show a list of its own


@contextmanager
def visual_studio_code(
    folder: Path,
    home: Path,
    *,
    settings: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    pictures: Path | None = None,
    others: Sequence[Path] = (),
    size: tuple[int, int] = (1280, 800),
    scale: float = 1,
) -> Iterator[Workbench]:
    """A VS Code of its own on a folder, with the packaged extension and these settings.

    ``home`` keeps its user data and extensions. Settings are without the section's name.
    ``others`` are further extensions to install.
    """
    user, extensions = home / "user", home / "extensions"
    file = user / "User" / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(QUIET, indent=2))
    write_settings(user, settings or {})
    code = [
        str(NODE / "bin" / "node"), str(CODE_SERVER),
        "--user-data-dir", str(user), "--extensions-dir", str(extensions),
    ]  # fmt: skip
    variables = os.environ | {"XDG_CONFIG_HOME": str(home / "config")} | (environment or {})
    if not extensions.exists():
        wanted = [word for file in (VSIX, *others) for word in ("--install-extension", str(file))]
        subprocess.run(
            [*code, *wanted], env=variables, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
    log = home / "code-server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*code, "--auth", "none", "--bind-addr", "127.0.0.1:0", "--disable-telemetry",
             "--disable-update-check", "--disable-workspace-trust", str(folder)],
            env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        address = _address(server, log)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale
            )
            page.set_default_timeout(1000 * PATIENCE)
            expect.set_options(timeout=1000 * PATIENCE)
            page.goto(f"{address}/?folder={folder}")
            expect(page.locator(".monaco-workbench .statusbar")).to_be_visible()
            yield Workbench(page, user, pictures)
            browser.close()
    finally:
        # The extension host and our server are children of code-server's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where code-server listens, from its log."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"listening on (http://[\d.]+:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(_POLL_SECONDS)
    print(log.read_text(), file=sys.stderr)
    raise AssertionError("code-server did not start")
