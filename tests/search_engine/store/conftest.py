import sys
from pathlib import Path

import pytest

from search_engine.store.store import Store

# The writers that get killed are scripts beside the tests.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "store.db"


@pytest.fixture
def store(path):
    with Store(path) as store:
        yield store
