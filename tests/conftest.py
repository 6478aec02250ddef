"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chance import without_chance
from tests.support.model_server import ModelServer
from tests.support.postgres_server import shared_server

without_chance()


@pytest.fixture(scope="session")
def _running_model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def model_server(_running_model_server: ModelServer) -> ModelServer:
    """A model provider on 127.0.0.1 that forgets everything between tests."""
    _running_model_server.reset()
    return _running_model_server


@pytest.fixture
def postgres_url() -> str:
    """The URL of an empty database on a server of this test process."""
    return shared_server().new_database()
