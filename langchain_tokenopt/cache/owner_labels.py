"""Whose answers are whose: the labels that keep users and organizations apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

from langchain_core.runnables.config import var_child_runnable_config

from langchain_tokenopt.core.attribution import owner_label, owner_labels, said_around
from langchain_tokenopt.core.context_blocks import ContextBlock

__all__ = ["Labels", "ScopeLabels", "name_an_owner"]

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs of a name and a value; a name may have several values."""

_Own = Mapping[str, tuple[str, int]]
"""What scopes say, by label, and how much other blocks had said when that scope began."""
_NO_SCOPES: Final[Mapping[int, _Own]] = MappingProxyType({})
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
        said = len(said_around())
        own = {owner_label(name): (value, said if value else 0) for name, value in labels.items()}
        inside = {**around, self._number: {**around.get(self._number, {}), **own}}
        with ContextBlock({_SCOPES: inside}):
            yield

    def labels(self, metadata: Mapping[str, Any] | None = None) -> Labels:
        """Return the labels of a request: what its metadata and the scopes around it say.

        Of what neither names ``track_usage``, ``token_scope`` and ``plan.run`` decide, and of what
        they have said inside of a scope both: whoever is named by neither sees none of it.

        Args:
            metadata: Of the run; LangChain's current run where it is ``None``.
        """
        if metadata is None:
            config = var_child_runnable_config.get()
            metadata = config.get("metadata") if config else None
        scopes = _SCOPES.get().get(self._number, {})
        said = said_around()
        if not (metadata or scopes or said):
            return ()
        by_call = owner_labels(metadata or {})
        found = {(label, value) for label, (value, _) in scopes.items()} | by_call
        around = {label: (at, name) for at, (label, name) in enumerate(said)}
        named = {label for label, name in by_call if name}
        found |= {
            (label, name)
            for label, (at, name) in around.items()
            if label not in named and (label not in scopes or at >= scopes[label][1])
        }
        return tuple(sorted(found - {(label, "") for label in around}))


def name_an_owner(labels: Labels) -> bool:
    """Say whether there is a label; an empty user name is none."""
    return any(value for _, value in labels)
