"""Documents as the protocol means them: line ends, encodings, incremental changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types as lsp
from pygls.workspace import PositionCodec

from kernel_lsp.documents import Documents
from kernel_lsp.features.target import text_edit
from kernel_lsp.protocol import Document, PythonWorkspace

TEXT = st.text(st.sampled_from("ab \n\r\f\u2028𝒳é"), max_size=30)


def units(text: str, encoding: str) -> int:
    width = {"utf-8": 1, "utf-16-le": 2, "utf-32-le": 4}
    return len(text.encode(encoding)) // width[encoding]


def position(text: str, offset: int, encoding: str) -> lsp.Position:
    """The reference: lines end at \\n, \\r\\n and \\r."""
    before = text[:offset]
    if before.endswith("\r") and text[offset : offset + 1] == "\n":
        before = before[:-1]  # between the two is no position: it is the end of the line
    line = before.replace("\r\n", "\n").replace("\r", "\n")
    return lsp.Position(line.count("\n"), units(line.rpartition("\n")[2], encoding))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8), TEXT), max_size=5),
    TEXT,
    st.sampled_from(["utf-8", "utf-16", "utf-32"]),
)
def test_incremental_changes(changes: list[tuple[int, int, str]], text: str, encoding: str) -> None:
    codec = PositionCodec(lsp.PositionEncodingKind(encoding))
    document = Document("file:///net.py", text, 1, "python", position_codec=codec)
    python = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    for at, length, new in changes:
        start = min(at, len(text))
        end = min(start + length, len(text))
        if any(text[i - 1 : i + 1] == "\r\n" for i in (start, end)):
            continue
        where = lsp.Range(position(text, start, python), position(text, end, python))
        document.apply_change(lsp.TextDocumentContentChangePartial(where, new))
        text = text[:start] + new + text[end:]
        assert document.source == text
        assert "".join(document.lines) == text


def view_of(text: str):
    workspace = PythonWorkspace(None)
    documents = Documents()
    item = lsp.TextDocumentItem("file:///p/net.py", "python", 1, text)
    workspace.put_text_document(item)
    assert documents.open(item)
    view = documents.view(workspace, item.uri)
    assert view is not None
    assert documents.view(workspace, item.uri) is view, "one version is read once"
    return view


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_edits_behind_the_last_line(ending: str) -> None:
    view = view_of("a\nbß" + ending)
    edit = text_edit(view, 2, 2, "c\n")
    assert edit.range.start == (lsp.Position(2, 0) if ending else lsp.Position(1, 2))


def test_documents_by_their_resolved_path(tmp_path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    documents = Documents()
    for folder in ("real", "link"):
        uri = (tmp_path / folder / "net.py").as_uri()
        documents.open(lsp.TextDocumentItem(uri, "python", 1, ""))
    assert documents.paths() == {str((real / "net.py").resolve())}
