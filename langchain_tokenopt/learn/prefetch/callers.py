"""For whom something is called, and for whom ahead of a call: whose data, whose habits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.runnables.config import var_child_runnable_config

from langchain_tokenopt.core.attribution import (
    attribution_of,
    metadata_saying,
    name_from,
    owner_labels,
    said_around,
)
from langchain_tokenopt.storage.learned_store import user_key

__all__ = ["Caller", "caller_here", "learner_of"]

_NAMELESS: Final = 64
"""Learners that stand for threads of which nobody says whose they are."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    owner: tuple[tuple[str, str], ...]
    """Whose data he may see; nothing is handed from one owner to another."""
    user: str | None
    """Under whose name is kept what is learned, and is forgotten."""
    learner: str
    """Whose habits these are."""
    agent: str
    thread: str
    metadata: Mapping[str, Any]


def learner_of(user: str | None) -> str:
    """Return whose habits are learned from a user's calls."""
    return user_key(user)


def caller_here(
    *,
    metadata: Mapping[str, Any] | None = None,
    user: str | None = None,
    agent: str | None = None,
    thread_id: str | None = None,
    organization: str | None = None,
) -> Caller:
    """Return who calls: what is given, else what the run's metadata and blocks around it say.

    Where nobody says which user it is, the thread is the owner.

    Args:
        metadata: Of the run of the call.
        user: Whose call it is; like the others, before what *metadata* says.
        agent: Who makes it for him.
        thread_id: Of the conversation.
        organization: Whose user he is.

    Example:
        >>> caller_here(user="ann", agent="desk").owner
        (('user', 'ann'),)
        >>> caller_here(thread_id="t-1").owner
        (('thread', 't-1'),)
    """
    config = var_child_runnable_config.get()
    around = metadata_saying(**dict(said_around()))
    metadata = {**around, **((config or {}).get("metadata") or {}), **(metadata or {})}
    given = metadata_saying(agent, user, organization)
    given |= {} if thread_id is None else {"thread_id": thread_id}
    metadata |= given
    made_by = attribution_of(metadata)
    thread = made_by.thread_id or ""
    owner = tuple(sorted(owner_labels(metadata))) or ((("thread", thread),) if thread else ())
    user = made_by.user
    if user is None and thread:
        digest = hashlib.blake2b(name_from(thread).encode(), digest_size=4).digest()
        user = f"thread {int.from_bytes(digest) % _NAMELESS}"
    agent = (
        made_by.agent if made_by.organization is None else f"{made_by.organization}/{made_by.agent}"
    )
    return Caller(owner, user, learner_of(user), agent, thread, metadata)
