"""Caches wherever answers can be kept: the same tests for files and for PostgreSQL."""

from __future__ import annotations

import time

import pytest

from tests.support.cache_places import FilePlaces, ServerPlaces
from tests.support.caches import make_cache


@pytest.fixture(params=[FilePlaces, ServerPlaces], ids=["file", "server"])
def places(request):
    """Where caches are kept, by path."""
    found = request.param()
    yield found
    found.close()


@pytest.fixture
def make(places):
    """Make caches that are closed at the end."""
    made = []

    def make_one(path=None, **options):
        made.append(make_cache(places.of(path), **options))
        return made[-1]

    yield make_one
    for cache in made:
        cache.close()


def soon(happens, seconds=5.0):
    """Say whether something happens; what another process did is heard of a moment later."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
