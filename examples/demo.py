"""The main job through the real language server: what an editor does, with a terminal as editor.

Run by ``make demo``. Works in a scratch folder; nothing in the clone changes. On a machine
without a GPU the kernels run on the cpu device, so there are estimates and no speedups.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.syntax import Syntax

HERE = Path(__file__).resolve().parent
out = Console(highlight=False, width=min(Console().width, 100) if sys.stdout.isatty() else 100)


def heading(text: str) -> None:
    out.print()
    out.rule(f"[bold]{text}", align="left", style="cyan")


class Editor:
    """A small LSP client that shows on the terminal what an editor shows on the screen."""

    def __init__(self, file: Path, settings: dict[str, object]) -> None:
        self.file = file
        self.uri = file.as_uri()
        self.version = 1
        self.settings = settings
        self.client = LanguageClient("demo", "1")
        self.job_ended = asyncio.Event()
        self.lenses_changed = asyncio.Event()
        self.last_report = ""
        self._listen()

    def _listen(self) -> None:
        @self.client.feature(lsp.WINDOW_WORK_DONE_PROGRESS_CREATE)
        def _create(params: lsp.WorkDoneProgressCreateParams) -> None:
            return None

        @self.client.feature(lsp.PROGRESS)
        def _progress(params: lsp.ProgressParams) -> None:
            self.show_progress(params.value)

        @self.client.feature(lsp.WORKSPACE_CODE_LENS_REFRESH)
        def _lens_refresh(params: None) -> None:
            self.lenses_changed.set()

        @self.client.feature(lsp.WORKSPACE_INLAY_HINT_REFRESH)
        def _hint_refresh(params: None) -> None:
            return None

        @self.client.feature(lsp.WORKSPACE_CONFIGURATION)
        def _configuration(params: lsp.ConfigurationParams) -> list[object]:
            return [self.settings for _ in params.items]

        @self.client.feature(lsp.CLIENT_REGISTER_CAPABILITY)
        def _register(params: lsp.RegistrationParams) -> None:
            return None

        @self.client.feature(lsp.WINDOW_SHOW_MESSAGE)
        def _message(params: lsp.ShowMessageParams) -> None:
            out.print(f"[yellow]notification:[/] {params.message}")

        @self.client.feature(lsp.WINDOW_LOG_MESSAGE)
        def _log(params: lsp.LogMessageParams) -> None:
            return None

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def _diagnostics(params: lsp.PublishDiagnosticsParams) -> None:
            return None

        @self.client.feature(lsp.WORKSPACE_APPLY_EDIT)
        def _apply(params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            self.apply(params.edit)
            return lsp.ApplyWorkspaceEditResult(applied=True)

    def show_progress(self, value: object) -> None:
        """Each report on a line of its own, repeats left out."""
        fields = value if isinstance(value, dict) else vars(value)
        text = fields.get("message") or ""
        if fields["kind"] == "begin":
            out.print(f"[cyan]▸[/] {fields['title']}")
        elif fields["kind"] == "end":
            out.print(f"[cyan]■[/] {text or 'done'}")
            self.job_ended.set()
        elif text != self.last_report:
            self.last_report = text
            line = f"  [dim]{fields.get('percentage', 0):3d}%[/] {escape(text)}"
            out.print(line, no_wrap=True, overflow="ellipsis")

    async def start(self) -> None:
        await self.client.start_io(sys.executable, "-m", "kernel_lsp", "serve")
        await self.client.initialize_async(
            lsp.InitializeParams(
                capabilities=lsp.ClientCapabilities(
                    workspace=lsp.WorkspaceClientCapabilities(
                        apply_edit=True,
                        configuration=True,
                        code_lens=lsp.CodeLensWorkspaceClientCapabilities(refresh_support=True),
                        workspace_edit=lsp.WorkspaceEditClientCapabilities(
                            document_changes=True,
                            resource_operations=[
                                lsp.ResourceOperationKind.Create,
                                lsp.ResourceOperationKind.Delete,
                            ],
                            change_annotation_support=lsp.ChangeAnnotationsSupportOptions(),
                        ),
                    ),
                    text_document=lsp.TextDocumentClientCapabilities(
                        hover=lsp.HoverClientCapabilities(content_format=[lsp.MarkupKind.Markdown])
                    ),
                    window=lsp.WindowClientCapabilities(work_done_progress=True),
                ),
                root_uri=self.file.parent.as_uri(),
                initialization_options=self.settings,
                workspace_folders=[lsp.WorkspaceFolder(self.file.parent.as_uri(), "scratch")],
            )
        )
        self.client.initialized(lsp.InitializedParams())
        self.client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(
                lsp.TextDocumentItem(self.uri, "python", self.version, self.file.read_text())
            )
        )

    async def stop(self) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    async def lenses(self) -> list[lsp.CodeLens]:
        found = await self.client.text_document_code_lens_async(
            lsp.CodeLensParams(lsp.TextDocumentIdentifier(self.uri))
        )
        return list(found or [])

    async def show_lenses(self) -> None:
        lines = self.file.read_text().splitlines()
        shown: dict[int, list[str]] = {}
        for lens in await self.lenses():
            if lens.command is not None:
                shown.setdefault(lens.range.start.line, []).append(lens.command.title)
        for number, titles in sorted(shown.items()):
            out.print(f"  [dim]{' | '.join(titles)}[/]", highlight=False)
            out.print(f"  {number + 1:3d} {lines[number]}", markup=False)

    async def actions(self, line: int) -> list[lsp.CodeAction | lsp.Command]:
        here = lsp.Range(lsp.Position(line, 6), lsp.Position(line, 6))
        found = await self.client.text_document_code_action_async(
            lsp.CodeActionParams(
                lsp.TextDocumentIdentifier(self.uri), here, lsp.CodeActionContext([])
            )
        )
        return list(found or [])

    async def execute(self, command: lsp.Command) -> None:
        await self.client.workspace_execute_command_async(
            lsp.ExecuteCommandParams(command=command.command, arguments=command.arguments)
        )

    async def lens(self, title: str) -> lsp.Command | None:
        """The command of the lens of that title, None where there is none."""
        commands = [lens.command for lens in await self.lenses() if lens.command is not None]
        return next((command for command in commands if title in command.title), None)

    async def hover(self, line: int) -> str:
        found = await self.client.text_document_hover_async(
            lsp.HoverParams(lsp.TextDocumentIdentifier(self.uri), lsp.Position(line, 8))
        )
        if found is None:
            return ""
        contents = found.contents
        return contents.value if isinstance(contents, lsp.MarkupContent) else str(contents)

    def apply(self, edit: lsp.WorkspaceEdit) -> None:
        """What an editor does with a workspace edit, files saved at once."""
        for change in edit.document_changes or []:
            if isinstance(change, lsp.CreateFile):
                path = _path(change.uri)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
            elif isinstance(change, lsp.DeleteFile):
                _path(change.uri).unlink()
            elif isinstance(change, lsp.TextDocumentEdit):
                path = _path(change.text_document.uri)
                text = _edited(path.read_text(), list(change.edits))
                path.write_text(text)
                if path == self.file:
                    self.version += 1
                    self.client.text_document_did_change(
                        lsp.DidChangeTextDocumentParams(
                            lsp.VersionedTextDocumentIdentifier(self.version, self.uri),
                            [lsp.TextDocumentContentChangeWholeDocument(text)],
                        )
                    )


def _path(uri: str) -> Path:
    from pygls.uris import to_fs_path

    name = to_fs_path(uri)
    assert name is not None
    return Path(name)


def _edited(text: str, edits: list) -> str:
    """Apply LSP edits back to front; the demo's files are ASCII, so columns are characters."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(position: lsp.Position) -> int:
        return min(starts[min(position.line, len(lines))] + position.character, len(text))

    for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text


def show_diff(before: dict[str, str], folder: Path) -> None:
    """The workspace edit as a unified diff; long files by their beginning."""
    after = {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".cu")
        and not {"__pycache__", ".data"} & set(path.relative_to(folder).parts)
    }
    for name, text in after.items():
        lines = list(
            difflib.unified_diff(
                before.get(name, "").splitlines(),
                text.splitlines(),
                f"a/{name}" if name in before else "/dev/null",
                f"b/{name}",
                lineterm="",
            )
        )
        if not lines:
            continue
        shown = lines if name in before else lines[:45]
        out.print(Syntax("\n".join(shown), "diff", background_color="default"))
        if len(lines) > len(shown):
            out.print(f"[dim]  … {len(lines) - len(shown)} more lines of {name}[/]")


COMPARE = """\
import importlib.util
import torch
from token_probabilities_cuda.TokenProbabilities import explain

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TokenProbabilities(30.0, 0.8).eval()

device = "cuda" if torch.cuda.is_available() else "cpu"
original = load("original", "original/token_probabilities.py").to(device)
edited = load("token_probabilities", "token_probabilities.py").to(device)
logits = 10 * torch.randn(128, 32000, device=device)
with torch.inference_mode():
    expected, got = original(logits), edited(logits)
    print(f"On {device} the edited module runs: {explain(edited, logits)}")
difference = (got - expected).norm() / expected.norm()
print(f"Relative difference to the original: {difference:.2g}")
"""


def command(*arguments: str, folder: Path) -> int:
    """Run a command as a user would, its output as it comes."""
    out.print(f"[bold]$[/] {' '.join(arguments)}", highlight=False)
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(arguments[0], path=search) or arguments[0]
    done = subprocess.run(
        [program, *arguments[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    out.print(textwrap.indent(done.stdout + done.stderr, "  ").rstrip(), markup=False)
    return done.returncode


async def demo(folder: Path, settings: dict[str, object]) -> int:
    file = folder / "token_probabilities.py"
    shutil.copy(HERE / "token_probabilities.py", file)
    before = {file.name: file.read_text()}
    class_line = next(
        n for n, line in enumerate(before[file.name].splitlines()) if line.startswith("class ")
    )
    editor = Editor(file, settings)
    started = time.monotonic()
    await editor.start()
    try:
        accepted = await main_job(editor, class_line)
    finally:
        await editor.stop()
    if not accepted:
        out.print("\nThere is nothing to accept: no kernel was both verified and faster.")
        return 1
    show_diff(before, folder)

    heading("The delivered kernel, verified as it lies on disk")
    failed = command(
        "kernel-lsp", "verify", file.name, "token_probabilities_cuda/TokenProbabilities.cu",
        folder=folder,
    )  # fmt: skip

    heading("The edited module beside the original")
    original = folder / "original"
    original.mkdir()
    (original / file.name).write_text(before[file.name])
    (folder / "compare.py").write_text(COMPARE)
    failed += command("python", "compare.py", folder=folder)
    out.print(f"\n{time.monotonic() - started:.0f} s in all, in a scratch copy.")
    return 1 if failed else 0


async def main_job(editor: Editor, class_line: int) -> bool:
    """From the lens to Accept, as on the screen; False where nothing is offered."""
    heading(f"{editor.file.name} is open: the lens above the class")
    await editor.show_lenses()

    heading("The code action, and the search as it runs")
    action = next(
        a for a in await editor.actions(class_line) if "Optimize with CUDA kernel" in a.title
    )
    out.print(f"[bold]{action.title}[/]")
    await editor.execute(action.command if isinstance(action, lsp.CodeAction) else action)
    await asyncio.wait_for(editor.job_ended.wait(), 600)

    heading("Hover on the class")
    out.print(Markdown(await editor.hover(class_line)))

    heading("The lens now, and what Accept does")
    await editor.show_lenses()
    accept = await editor.lens("Accept")
    if accept is None:
        return False
    await editor.execute(accept)
    await editor.show_lenses()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="{}", help="search settings as JSON")
    options = parser.parse_args()
    # A short search: it has to end while somebody watches.
    settings = {"search": {"rounds": 2, "ideas": 2, "branches": 2} | json.loads(options.settings)}
    with tempfile.TemporaryDirectory(prefix="kernel-lsp-demo-") as name:
        folder = Path(name).resolve()
        os.environ["KERNEL_LSP_DATA"] = str(folder / ".data")
        return asyncio.run(demo(folder, settings))


if __name__ == "__main__":
    raise SystemExit(main())
