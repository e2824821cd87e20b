"""Runs as files: what comes back, what stays at home, what is refused."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from attrs import evolve
from writer import REQUEST, start

from search_engine.deliver.delivery import Delivery
from search_engine.errors import StoreError
from search_engine.proposers._base import Branch, Idea
from search_engine.settings import SearchSettings
from search_engine.store import archive
from search_engine.store.archive import pack, unpack
from search_engine.store.portable import project_root, without_paths
from search_engine.store.records import Configuration, Environment
from search_engine.store.store import Store
from search_engine.verdict import BuildInfo, Estimate, Finding, Verdict

ENVIRONMENT = Environment("cpu (SIMT)", "NVIDIA H200", "2.9.0", "3.12.1", "0.1.0")
DELIVERY = Delivery(
    "Net", "f", {"net_cuda/Net.cu": "// kernel\n"}, "from .net_cuda.Net import Net_cuda",
    "@Net_cuda", "One pass", "Reads once.", "×2",
)  # fmt: skip


@pytest.fixture
def run_id(store):
    run_id, _ = start(store)
    store.claim(run_id, "me")
    store.set_environment(run_id, ENVIRONMENT)
    store.add_ideas(run_id, 1, "playbook", [Idea("One pass", "Reads once.", "memory access", 1.5)])
    (idea,) = store.run(run_id).ideas
    sources = ["// tune: A = 1 | 2\n// one", "// two"]
    store.add_branches(run_id, idea.id, [Branch(source, "l") for source in sources])
    first, second = store.run(run_id).kernels
    done = Configuration(
        {"A": "2"}, Verdict(True, "cpu (SIMT)"),
        (BuildInfo("run", log="/home/lovelace/cache/k.cu: ok"),),
        estimate=Estimate("NVIDIA H200", 1e-5, "DRAM", {"DRAM": 1e-5}),
    )  # fmt: skip
    store.add_configuration(first.id, done, "#define A 2\n// one")
    store.end_sweep(first.id)
    store.set_verdict(second.id, Verdict(False, "d", (Finding("race", "at /project/net.py"),)), [])
    store.add_event(
        run_id, "notice", "the log is /home/lovelace/.local/share/kernel-lsp/logs/x.log"
    )
    store.offer(run_id, first.id, DELIVERY)
    store.finish(run_id, "finished", "done in /project/pkg")
    return run_id


def packed(store, run_id):
    clean = without_paths(Path("/project"))
    return pack(store.run(run_id), store.events(run_id), "net.py", clean)


def rewritten(data, change, *, rehash=True, name="run.json"):
    """The file with one entry's JSON changed, and the manifest made to fit."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        entries = {entry: opened.read(entry) for entry in opened.namelist()}
    value = json.loads(entries[name])
    change(value)
    entries[name] = json.dumps(value).encode()
    return zipped(entries, rehash=rehash and name != "manifest.json")


def zipped(entries, *, rehash=True):
    entries = dict(entries)
    if rehash:
        manifest = json.loads(entries["manifest.json"])
        manifest["contents"] = {
            name: {"bytes": len(data), "sha256": archive.hashlib.sha256(data).hexdigest()}
            for name, data in entries.items()
            if name != "manifest.json"
        }
        entries["manifest.json"] = json.dumps(manifest).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return written.getvalue()


def entries_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {entry: opened.read(entry) for entry in opened.namelist()}


def test_what_is_packed_comes_back_in_another_store(store, run_id, tmp_path):
    before = store.run(run_id)
    found = unpack(packed(store, run_id), "x.zip")
    with Store(tmp_path / "other.db") as other:
        start(other)  # ids are taken there already
        assert other.insert(found.run, found.events)
        after = other.run(run_id)
        assert [e.kind for e in other.events(run_id)] == ["notice", "end"]
    assert after.path == "net.py"
    assert after.request == evolve(REQUEST, path="net.py")
    assert (after.status, after.decision, after.created) == ("finished", "pending", before.created)
    assert (after.environment, after.delivery) == (ENVIRONMENT, DELIVERY)
    assert [k.source for k in after.kernels] == ["#define A 2\n// one", "// two"]
    kernel = after.winner
    assert (kernel.template, kernel.finished) == ("// tune: A = 1 | 2\n// one", True)
    assert kernel.configurations[0].values == {"A": "2"}
    assert kernel.verdict == before.kernels[0].verdict
    assert kernel.estimate == before.kernels[0].estimate
    assert after.kernels[1].verdict.findings[0].check == "race"


def test_the_same_run_is_the_same_bytes_and_in_a_store_once(store, run_id):
    data = packed(store, run_id)
    assert data == packed(store, run_id)
    found = unpack(data, "x.zip")
    assert not store.insert(found.run, found.events)
    assert len(store.run_ids()) == 1
    assert len(store.run(run_id).kernels) == 2


def test_another_run_of_that_id_is_not_overwritten(store, run_id):
    found = unpack(packed(store, run_id), "x.zip")
    with pytest.raises(StoreError, match="cannot be stored beside"):
        store.insert(evolve(found.run, created=1.0), found.events)
    assert len(store.run(run_id).kernels) == 2


def test_nothing_is_half_written(store, run_id, tmp_path):
    found = unpack(packed(store, run_id), "x.zip")
    twice = evolve(found.run, kernels=(found.run.kernels[0], found.run.kernels[0]))
    with Store(tmp_path / "other.db") as other:
        with pytest.raises(StoreError):
            other.insert(twice, found.events)
        assert other.run_ids() == []
        assert other.events(run_id) == []


def test_no_path_of_this_machine_is_in_it(store, run_id):
    data = packed(store, run_id)
    for name, content in entries_of(data).items():
        text = content.decode()
        for secret in ("/home", "lovelace", "/project"):
            assert secret not in text, name
    found = unpack(data, "x.zip")
    assert found.events[0].message == "the log is …/x.log"
    assert found.run.kernels[0].builds[0].log == "…/k.cu: ok"
    assert found.run.kernels[1].verdict.findings[0].message == "at net.py"
    assert found.run.message == "done in pkg"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("/project/src/net.py, line 3", "src/net.py, line 3"),
        ("in '/usr/lib/python3/x.py'", "in '…/x.py'"),
        ("/projects/net.py", "…/net.py"),
        ("1 / 2 and bytes/second", "1 / 2 and bytes/second"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_paths_in_messages(text, cleaned):
    assert without_paths(Path("/project"))(text) == cleaned


def test_the_project_is_the_nearest_folder_with_its_marks(tmp_path, monkeypatch):
    file = tmp_path / "home" / "work" / "src" / "net.py"
    file.parent.mkdir(parents=True)
    assert project_root(file) == file.parent
    (tmp_path / "home" / "work" / "pyproject.toml").touch()
    (tmp_path / "home" / ".git").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert project_root(file) == tmp_path / "home" / "work"
    (tmp_path / "home" / "work" / "pyproject.toml").unlink()
    assert project_root(file) == file.parent


def test_who_wrote_it_is_not_known(store, run_id):
    def loosen(record):
        record["settings"] |= {"unguarded": True, "device": "cuda:7"}
        call = {
            "description": "Net(os.system('true')), x=1",
            "calls": 1,
            "strides": {},
            "state": "",
        }
        record["request"]["recorded"] = [call]
        record["decision"] = "accepted"
        record["status"] = "running"

    run = unpack(rewritten(packed(store, run_id), loosen), "x.zip").run
    assert (run.settings.unguarded, run.settings.device) == (False, "auto")
    assert run.request.recorded == ()
    assert (run.status, run.decision) == ("stopped", "pending")
    assert [record.proposer for record in run.ideas] == ["playbook, imported"]
    assert run.settings.rounds == SearchSettings().rounds


def set_in(path, value):
    *parents, last = path

    def change(record):
        for key in parents:
            record = record[key]
        record[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in(["id"], "../../evil"),
        set_in(["qualname"], "../Net"),
        set_in(["request", "qualname"], "Other"),
        set_in(["path"], "/etc/passwd.py"),
        set_in(["path"], "../../net.py"),
        set_in(["path"], "net.sh"),
        set_in(["created"], 1e300),
        set_in(["created"], float("nan")),
        set_in(["updated"], -1),
        set_in(["round"], "many"),
        set_in(["status"], "perfect"),
        set_in(["winner_id"], 99),
        set_in(["kernels", 0, "idea_id"], 7),
        set_in(["kernels", 0, "id"], 2),
        set_in(["kernels"], None),
        set_in(["delivery", "files"], {"../../.bashrc": "rm"}),
        set_in(["delivery", "files"], {"net_cuda/../x.py": "rm"}),
        set_in(["delivery", "files"], {"tests/conftest.py": "rm"}),
        set_in(["delivery", "import_line"], "import os; os.system('true')"),
        set_in(["delivery", "import_line"], "from a import b\nimport os"),
        set_in(["delivery", "decorator_line"], "@evil('x')"),
        set_in(["delivery", "qualname"], "Other"),
        set_in(["message"], "\ud800"),
        set_in(["ideas", 0, "idea"], {"title": []}),
        lambda record: record.clear(),
    ],
)
def test_what_export_does_not_write_is_refused(store, run_id, change):
    with pytest.raises(StoreError) as caught:
        unpack(rewritten(packed(store, run_id), change), "x.zip")
    message = str(caught.value)
    assert message.startswith("x.zip ")
    assert "\n" not in message
    assert len(message) < 200


def test_escape_sequences_do_not_reach_a_terminal(store, run_id):
    data = rewritten(packed(store, run_id), set_in(["message"], "\x1b[2Jgone"))
    assert unpack(data, "x.zip").run.message == "\ufffd[2Jgone"
    data = rewritten(packed(store, run_id), set_in(["delivery", "title"], "\x1b[2J"))
    assert unpack(data, "x.zip").run.delivery.title == "\ufffd[2J"
    entries = entries_of(packed(store, run_id))
    entries["kernels/1.cu"] = b"// \x1b[2J"
    with pytest.raises(StoreError, match="control characters"):
        unpack(zipped(entries), "x.zip")


def test_a_newer_format_says_to_upgrade(store, run_id):
    data = rewritten(packed(store, run_id), set_in(["version"], 2), name="manifest.json")
    with pytest.raises(StoreError, match=r"version 2 of the format.*upgrade kernel-lsp"):
        unpack(data, "x.zip")
    data = rewritten(packed(store, run_id), set_in(["format"], "other"), name="manifest.json")
    with pytest.raises(StoreError, match="it is no run"):
        unpack(data, "x.zip")


def test_changed_contents_are_noticed(store, run_id):
    data = rewritten(packed(store, run_id), set_in(["message"], "better"), rehash=False)
    with pytest.raises(StoreError, match="not what its manifest says"):
        unpack(data, "x.zip")


@pytest.mark.parametrize("name", ["../evil", "/etc/x", "extra.txt", "kernels/0.cu", "kernels/"])
def test_foreign_entries_are_refused(store, run_id, name):
    with pytest.raises(StoreError, match="which no run has"):
        unpack(zipped(entries_of(packed(store, run_id)) | {name: b"x"}), "x.zip")


def test_bombs_are_refused(store, run_id, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    entries = entries_of(packed(store, run_id)) | {"kernels/9.cu": b" " * 2**21}
    bomb = zipped(entries)
    assert len(bomb) < 2**16
    with pytest.raises(StoreError, match="unpacks to more than 1 MB"):
        unpack(bomb, "x.zip")
    deep = entries_of(packed(store, run_id)) | {"events.json": b"[" * 200_000}
    with pytest.raises(StoreError):
        unpack(zipped(deep), "x.zip")
    monkeypatch.setattr(archive, "MOST_ENTRIES", 3)
    with pytest.raises(StoreError, match="too many entries"):
        unpack(packed(store, run_id), "x.zip")


def test_damaged_files_are_refused_whole(store, run_id):
    data = packed(store, run_id)
    for end in range(0, len(data), max(len(data) // 40, 1)):
        with pytest.raises(StoreError):
            unpack(data[:end], "x.zip")
    for place in range(0, len(data), max(len(data) // 60, 1)):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        try:
            found = unpack(bytes(broken), "x.zip")
        except StoreError:
            continue
        assert found == unpack(data, "x.zip")  # a byte of zip's own that nobody reads
