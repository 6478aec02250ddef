"""Whose answers are whose: the labels that keep users and organizations apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

from langchain_core.runnables.config import var_child_runnable_config

from langchain_tokenopt.core.attribution import owner_label, owner_labels
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.staged_runs import TRACKER

__all__ = ["Labels", "ScopeLabels", "name_an_owner"]

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs of a name and a value; a name may have several values."""

_NO_SCOPES: Final[Mapping[int, Mapping[str, str]]] = MappingProxyType({})
_SCOPES: Final = ContextVar("tokenopt_cache_scopes", default=_NO_SCOPES)
"""What the scopes around a call say, by the number of their cache."""
_numbers = itertools.count()


class ScopeLabels:
    """The labels of one cache's scopes; those of another cache's are not seen."""

    def __init__(self) -> None:
        self._number = next(_numbers)

    @contextmanager
    def scope(self, labels: Mapping[str, str]) -> Iterator[None]:
        """Set labels for what is asked inside; scopes nest, and the inner one wins."""
        around = _SCOPES.get()
        own = {owner_label(name): value for name, value in labels.items()}
        inside = {**around, self._number: {**around.get(self._number, {}), **own}}
        with ContextBlock({_SCOPES: inside}):
            yield

    def labels(self, metadata: Mapping[str, Any] | None = None) -> Labels:
        """Return the labels of a request: what its metadata and the scopes around it say.

        Where they name no user, or no organization, it is whose usage is tracked.

        Args:
            metadata: Of the run; LangChain's current run where it is ``None``.
        """
        if metadata is None:
            config = var_child_runnable_config.get()
            metadata = config.get("metadata") if config else None
        found = set(_SCOPES.get().get(self._number, {}).items())
        if metadata:
            found |= owner_labels(metadata)
        tracker = TRACKER.get()
        if tracker is not None and tracker.owners:
            named = {label for label, _ in found}
            found |= {pair for pair in tracker.owners.items() if pair[0] not in named}
        return tuple(sorted(found))


def name_an_owner(labels: Labels) -> bool:
    """Say whether there is a label; an empty user name is none."""
    return any(value for _, value in labels)
