"""A store that cannot be used says in one sentence what to do."""

import os
import resource
import sqlite3
from pathlib import Path

import pytest
from writer import REQUEST, start

from search_engine import data_folder as folders
from search_engine import serial
from search_engine.errors import StoreError
from search_engine.proposers._base import Idea
from search_engine.store import database
from search_engine.store.database import SCHEMA_VERSION, Database
from search_engine.store.store import Store


def refused(path, **kwargs):
    with pytest.raises(StoreError) as caught, Store(path, **kwargs) as store:
        start(store)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_no_database_at_all(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for a header" * 40)
    assert "move it away to start afresh" in refused(path)


def test_a_damaged_database(path):
    with Store(path) as store:
        for number in range(50):
            start(store, path=f"/project/{number}.py")
    data = bytearray(path.read_bytes())
    assert len(data) > 4 * 4096
    data[4096:] = os.urandom(len(data) - 4096)  # the header stays, the tables do not
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged: move it away"), Store(path) as store:
        store.run_ids()


def test_a_database_of_something_else(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (x)")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.close()
    assert "move it away to start afresh" in refused(path)


def test_a_newer_store(path):
    with Store(path) as store:
        run_id, _ = start(store)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    assert f"newer kernel-lsp (schema {SCHEMA_VERSION + 1}" in refused(path)
    db = sqlite3.connect(path)  # and nothing was done to it
    assert db.execute("SELECT id FROM runs").fetchone() == (run_id,)
    db.close()


def test_a_store_of_the_first_schema_is_brought_up_to_date(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(database, "_MIGRATIONS", database._MIGRATIONS[:1])
        patch.setattr(database, "SCHEMA_VERSION", 1)
        Database(path).close()
    db = sqlite3.connect(path)
    db.execute(
        "INSERT INTO runs VALUES ('r', '/net.py', 'Net', 'f', ?, '{}', 'finished', 'done', 'none', "
        "1, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0)",
        (serial.dumps(REQUEST),),
    )
    idea = serial.dumps(Idea("i", "r", "memory access", None))
    db.execute("INSERT INTO ideas VALUES (1, 'r', 1, 0, 'playbook', ?, 1)", (idea,))
    db.execute(
        "INSERT INTO kernels VALUES (1, 'r', 1, 0, 'l', 'code', '[]', NULL, NULL, NULL, 0, 1)"
    )
    db.commit()
    db.close()
    with Store(path) as store:
        (kernel,) = store.run("r").kernels
        assert (kernel.source, kernel.template, kernel.configurations) == ("code", None, ())
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_a_store_that_cannot_be_written(path, monkeypatch):
    Store(path).close()
    connect = sqlite3.connect

    def read_only(where, **kwargs):
        return connect(f"file:{where}?mode=ro", uri=True, **kwargs)

    monkeypatch.setattr(database.sqlite3, "connect", read_only)
    assert "cannot be written: check its permissions" in refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_a_folder_that_cannot_be_written(path):
    path.parent.mkdir()
    path.parent.chmod(0o500)
    assert "cannot be written: check its permissions" in refused(path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be made .*set KERNEL_LSP_DATA"):
        Store(tmp_path / "file" / "data" / "store.db")


def test_a_full_disk_loses_the_write_and_nothing_else(store, path):
    run_id, _ = start(store)
    store.add_event(run_id, "notice", "before")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk full"
    with pytest.raises(StoreError, match=r"disk that holds .* is full: free some space"):
        store.add_event(run_id, "notice", "x" * 100_000)
    assert [e.message for e in store.events(run_id)] == ["before"]
    store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.add_event(run_id, "notice", "after")  # goes on once there is room
    assert [e.message for e in store.events(run_id)] == ["before", "after"]


def test_a_store_that_another_program_holds(store, path, monkeypatch):
    run_id, _ = start(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreError, match="locked by another program"):
        store.add_event(run_id, "notice", "x")
    assert store.events(run_id) == []  # reading goes on
    other.execute("ROLLBACK")
    store.add_event(run_id, "notice", "x")
    other.close()


def test_a_home_on_a_network_goes_to_a_local_disk(monkeypatch, tmp_path):
    monkeypatch.delenv("KERNEL_LSP_DATA", raising=False)
    monkeypatch.setattr(folders, "file_system", lambda path: "nfs4")
    assert folders.data_folder() == Path("/var/tmp") / f"kernel-lsp-{os.getuid()}"
    monkeypatch.setattr(folders, "file_system", lambda path: "ext4")
    assert "/var/tmp" not in str(folders.data_folder())
    monkeypatch.setenv("KERNEL_LSP_DATA", str(tmp_path))
    assert folders.data_folder() == tmp_path


def test_the_file_system_of_a_folder(monkeypatch, tmp_path):
    mounts = (
        "dev / ext4 rw 0 0\nserver:/home {0} nfs4 rw 0 0\ntmp {0}/local\\040disk tmpfs rw 0 0\n"
    )
    real = Path.read_text

    def read(self, *args, **kwargs):
        if str(self) == "/proc/self/mounts":
            return mounts.format(tmp_path)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    assert folders.file_system(Path("/etc")) == "ext4"
    assert folders.file_system(tmp_path / "not" / "there" / "yet") == "nfs4"
    (tmp_path / "local disk").mkdir()
    assert folders.file_system(tmp_path / "local disk" / "x") == "tmpfs"


def test_the_data_folder_is_private(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "kernel-lsp.db"):
        assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 4242)
    if tmp_path.stat().st_uid == 0:
        os.chown(tmp_path, 4243, -1)
    with pytest.raises(StoreError, match="another user"):
        Store(tmp_path / "kernel-lsp.db")


def test_a_file_that_may_not_grow(path):
    with Store(path):
        pass
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert "free some space" in refused(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
