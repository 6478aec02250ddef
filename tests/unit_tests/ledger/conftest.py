from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_tokenopt.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokenopt.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened
