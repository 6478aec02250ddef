"""On whose account the calls of a run go, where its plan has limits per user or the like."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal

from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.budget.levels import NOBODY, TOOL_LIMITS, Owners
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.core.attribution import (
    Attribution,
    attribution_of,
    name_from,
    said_around,
    saying,
)
from langchain_tokenopt.core.errors import TokenOptWarning

__all__ = ["RunOwners"]

_KEPT: Final = 100
"""Users and the like of one run whose limits its report shows."""


class RunOwners:
    """Who pays for the calls of a run.

    Args:
        plan: Whose limits they are.
        user: Whose run it is.
        organization: And of which organization.
        thread: Of the run, for calls that name none.
    """

    def __init__(
        self, plan: PlanSettings, user: str | None, organization: str | None, thread: str
    ) -> None:
        self._plan = plan
        self._own = {"user": user, "organization": organization}
        self._thread = thread
        self._around: dict[str, str] = {}
        """What was said around when the run began."""
        self.seen: dict[Owners, None] = {}
        """On whose account calls went, the latest of many."""
        self._nameless: set[str] = set()
        """Who was warned of: that calls do not say whose they are."""

    def begin(self) -> None:
        """Take note of whose calls those around the run are."""
        self._around = dict(said_around())

    def inside(self) -> Mapping[ContextVar[Any], Any]:
        """Return what a block sets whose calls are the run's."""
        return saying(**self._own)

    def of(self, made_by: Attribution) -> Owners:
        """Return on whose account a call goes.

        What the call's own metadata says counts first, then ``track_usage`` and ``token_scope``
        inside of the run, then ``plan.run``, then those around it. Inside of tools with a limit of
        their own it goes on those, too.
        """
        tools, limits = TOOL_LIMITS.get(), self._plan.limits
        if not limits and not tools:
            return NOBODY
        owners = self._named(made_by) if limits else NOBODY
        owners = owners._replace(tools=tools)
        if owners not in self.seen:
            self.seen = dict.fromkeys((*[*self.seen][1 - _KEPT :], owners))
        for limit in limits:
            if limit.per in ("user", "organization") and not getattr(owners, limit.per):
                self._warn_of_nobody(limit.per)
        return owners

    def here(self) -> Owners:
        """Return on whose account a call would go that is made here."""
        if not self._plan.limits:
            return NOBODY
        return self._named(attribution_of(ensure_config().get("metadata") or {}))

    def around(self, what: Literal["user", "organization"]) -> str | None:
        """Return whose the run is: as it was told itself, or by a block around it."""
        own = self._own[what]
        return self._around.get(what) if own is None else name_from(own)

    def _named(self, made_by: Attribution) -> Owners:
        said = dict(said_around())
        return Owners(
            made_by.user or said.get("user") or self.around("user"),
            made_by.organization or said.get("organization") or self.around("organization"),
            made_by.thread_id or self._thread,
        )

    def _warn_of_nobody(self, per: str) -> None:
        if per not in self._nameless:
            self._nameless.add(per)
            warnings.warn(
                f"calls under the plan {self._plan.name!r} do not say whose they are, and it has a "
                f"limit per {per}: they are counted together. Give plan.run({per}=...), "
                f'track_usage({per}=...), or metadata={{"{per}_id": ...}} with the call.',
                TokenOptWarning,
                stacklevel=5,
            )
