"""The stage that asks, for each request, the cheapest model that is good enough."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.core.argument_checks import did_you_mean, shown, takes_names
from langchain_tokenopt.core.attribution import metadata_saying
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.host_compat import llm_string_of
from langchain_tokenopt.core.messages import messages_from
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.routing.complexity import Complexity, Features, features_of
from langchain_tokenopt.routing.policies import Policy, checked_policy, place_of, tier_at
from langchain_tokenopt.routing.rebinding import rebound
from langchain_tokenopt.routing.route import Route
from langchain_tokenopt.routing.route_call import RouteCall
from langchain_tokenopt.routing.tiers import Needs, Tier, tiers_of
from langchain_tokenopt.routing.tool_loop import CallMemory, last_call
from langchain_tokenopt.stage import Phase, StageCall

__all__ = ["ModelRouter"]

STAGE: Final = "ModelRouter"


class ModelRouter:
    """Ask, for each request, the cheapest model that is good enough for it."""

    phase = Phase.ROUTE

    @takes_names
    def __init__(
        self,
        models: Mapping[str, BaseChatModel] | Iterable[BaseChatModel],
        *,
        policy: Policy = "balanced",
        roles: Mapping[str, str | tuple[str, str]] | None = None,
        cascade: Any = None,
        learn: bool = True,
        store: str | Path | None = None,
    ) -> None:
        self.tiers = tiers_of(models)
        self.policy = checked_policy(policy)
        self._by_name = {tier.name: tier for tier in self.tiers}
        self._roles = self._checked_roles(roles)
        self._calls = CallMemory()
        self._has_warned: set[str] = set()
        self.fingerprint = self._named()

    @property
    def blocking(self) -> bool:
        """Whether a file is read: the budget's."""
        run = current_run()
        return run is not None and run.account.blocking

    def __repr__(self) -> str:
        """Show the tiers, cheapest first."""
        return f"ModelRouter({' < '.join(self._by_name)}, policy={self.policy!r})"

    def _named(self) -> str:
        """Name every setting that changes answers."""
        models = [(tier.name, llm_string_of(tier.model, None, {})) for tier in self.tiers]
        policy = getattr(self.policy, "__qualname__", self.policy)
        said = repr((models, policy, sorted(self._roles.items())))
        return f"{STAGE}:{hashlib.blake2b(said.encode(), digest_size=12).hexdigest()}"

    def _checked_roles(self, roles: Any) -> dict[str, tuple[int, int]]:
        """Return by agent the places of the least and the most tier.

        Raises:
            ValueError: There is no such tier.
        """
        if roles is None:
            return {}
        if not isinstance(roles, Mapping):
            raise TypeError(
                f"roles are a mapping of agents to tiers, such as {{'judge': 'strong'}}; got "
                f"{shown(roles)}."
            )
        found = {}
        for agent, given in roles.items():
            pair = (given, self.tiers[-1].name) if isinstance(given, str) else tuple(given)
            for name in pair:
                if name not in self._by_name:
                    raise ValueError(
                        f"roles: {agent!r} is given the tier {shown(name)}, which there is not."
                        f"{did_you_mean(name, self._by_name)} Tiers are {', '.join(self._by_name)}."
                    )
            if len(pair) != 2 or self._by_name[pair[0]].at > self._by_name[pair[1]].at:
                raise ValueError(
                    f"roles: {agent!r} needs a tier, or the least and the most in a pair; got "
                    f"{shown(given)}."
                )
            found[str(agent)] = self._by_name[pair[0]].at, self._by_name[pair[1]].at
        return found

    # Stage

    def open(self, request: ModelRequest) -> StageCall | None:
        """Put the model that was chosen into the request."""
        if request.kwargs.get("model"):  # whoever names a model wants that one
            return None
        found = self._decided(request)
        if found is None:
            return None
        route, made = found
        if request.observe:
            return None
        request.run.stages.append(STAGE)
        return RouteCall(made, route.tier, lambda ids: self._calls.note(ids, route.tier))

    def explain(
        self, messages: Any, *, tools: Iterable[Any] = (), agent: str | None = None
    ) -> Route:
        """Return what would be decided for a request, and why; nothing is asked.

        Args:
            messages: What would be asked, in any form that models take.
            tools: What would be bound.
            agent: Who would ask.

        Example:
            >>> from langchain_core.language_models import FakeListChatModel
            >>> cheap, strong = (FakeListChatModel(responses=[name]) for name in ("a", "b"))
            >>> router = ModelRouter({"cheap": cheap, "strong": strong})
            >>> print(router.explain("What is the capital of France?"))
            cheap (SIMPLE): SIMPLE under the policy 'balanced'
        """
        schemas = [t if isinstance(t, Mapping) else convert_to_openai_tool(t) for t in tools]
        run = StagedRun(run_id=uuid4(), metadata=metadata_saying(agent))
        strongest = self.tiers[-1].model
        given = [messages] if hasattr(messages, "content") else messages
        kwargs = {"tools": schemas} if schemas else {}
        request = ModelRequest(strongest, list(messages_from(given)), None, kwargs, run)
        found = self._decided(request)
        if found is not None:
            return found[0]
        features = _features(request, Needs(request))
        return Route(
            self.tiers[-1].name, strongest, features.complexity, features.as_dict(),
            ("no tier has all that the request needs",),
        )  # fmt: skip

    # Decision

    def _decided(self, request: ModelRequest) -> tuple[Route, ModelRequest] | None:
        """Return the route of a request and the request for it; ``None``: leave it as it is."""
        needs = Needs(request)
        features, reasons = _features(request, needs), []
        made: dict[str, ModelRequest] = {}
        for tier in self.tiers:
            lack = tier.lacks(needs)
            there = None if lack else rebound(request, tier.model)
            if there is None:
                reasons.append(f"{tier.name} lacks {lack or 'the form of the request'}")
            else:
                made[tier.name] = there
        candidates = [tier for tier in self.tiers if tier.name in made]
        if not candidates:
            self._warn("; ".join(reasons), request)
            return None
        tier = self._loop_tier(request, candidates, reasons) or self._fresh_tier(
            request, features, candidates, reasons
        )
        route = Route(
            tier=tier.name,
            model=tier.model,
            complexity=features.complexity,
            features=features.as_dict(),
            reasons=tuple(reasons),
            candidates=tuple(made),
            difficulty=features.difficulty,
        )
        return route, made[tier.name]

    def _loop_tier(
        self, request: ModelRequest, candidates: Sequence[Tier], reasons: list[str]
    ) -> Tier | None:
        """Return the tier that has begun a tool loop; ``None``: none is under way."""
        calls = last_call(request.messages)
        if calls is None:
            return None
        begun = self._calls.tier_of(calls, self.tiers)
        if begun is not None and begun in candidates:
            reasons.append(f"{begun.name} has begun the tool calls")
            return begun
        what = "is not known" if begun is None else f"{begun.name}, cannot go on"
        reasons.append(f"who has begun the tool calls, {what}: the strongest")
        return candidates[-1]

    def _fresh_tier(
        self,
        request: ModelRequest,
        features: Features,
        candidates: Sequence[Tier],
        reasons: list[str],
    ) -> Tier:
        """Return the tier of a request with which a turn begins."""
        tier = tier_at(place_of(self.policy, features), self.tiers)
        reasons.append(f"{features.complexity.name} under the policy {self.policy!r}")
        at = self._within_budget(tier.at, features, reasons)
        agent = request.facts.attribution.agent
        if agent in self._roles:
            least, most = self._roles[agent]
            at = min(max(at, least), most)
            reasons.append(f"the role of {agent}")
        return next((one for one in candidates if one.at >= at), candidates[-1])

    def _within_budget(self, at: int, features: Features, reasons: list[str]) -> int:
        """Go a tier down where the budget runs low."""
        run = current_run()
        if run is None or not at or features.complexity is Complexity.CRITICAL:
            return at
        used = run.account.report().used_ratio
        if used < run.plan.soft_limit:
            return at
        reasons.append(f"{used:.0%} of the budget is used")
        return at - 1

    def _warn(self, reason: str, request: ModelRequest) -> None:
        """Say once that a request goes on with the caller's own model."""
        if reason in self._has_warned:
            return
        self._has_warned.add(reason)
        warnings.warn(
            f"No tier of the router has all that a request needs ({reason}): it goes on with the "
            f"model that it was made for, {request.facts.model_name or 'which has no name'}.",
            TokenOptWarning,
            stacklevel=2,
        )


def _features(request: ModelRequest, needs: Needs) -> Features:
    form = request.facts.answer_form
    return features_of(
        request.messages,
        tools=len(request.facts.tools),
        structured=form.is_structured,
        media=len(needs.media),
    )
