"""Caches wherever answers can be kept: the same tests for files and for PostgreSQL."""

from __future__ import annotations

import pytest

from tests.support.cache_places import FilePlaces, ServerPlaces
from tests.support.caches import make_cache


@pytest.fixture(
    params=[
        pytest.param(FilePlaces, id="file"),
        pytest.param(ServerPlaces, id="server", marks=pytest.mark.exhaustive),
    ]
)
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
