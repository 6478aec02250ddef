"""Which tier a request goes to: rules first, what was learned moves them, needs decide last."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from langchain_core.messages import AIMessage

from langchain_tokenopt.budget.account_reports import BudgetReport
from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.core.attribution import attribution_here
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.routing.allowance import allowance_of
from langchain_tokenopt.routing.asked import asked_text
from langchain_tokenopt.routing.complexity import (
    Complexity,
    Features,
    features_of,
    numbers_in,
)
from langchain_tokenopt.routing.estimate import Expected
from langchain_tokenopt.routing.outcomes import Outcomes, Owner
from langchain_tokenopt.routing.policies import Policy, name_of, place_for, place_of, tier_at
from langchain_tokenopt.routing.rebinding import rebound
from langchain_tokenopt.routing.route import Route
from langchain_tokenopt.routing.tiers import Needs, Tier
from langchain_tokenopt.routing.tool_loop import CallMemory, is_named, last_call
from langchain_tokenopt.routing.vectors import Vector, vector_of
from langchain_tokenopt.tools.learned_tools import namespace_of

__all__ = ["Decided", "Decider"]

_MARGINS: Final = {"cheap": 0.2, "balanced": 0.1, "strong": 0.05}
"""By how much likelier the strongest tier's answer must be good for a cheaper one to be passed
over, or not to be taken."""
_ALIKE: Final = 1.2
"""How far a request may be from those that are known, for them to speak for a cheaper model."""
_RELATED: Final = 2.4
"""The same, for them to speak against one."""
_LEAST_TRIED: Final = 0.1
"""How likely an answer must be good, at least, for a cascade to begin with it: one that is sent
back costs time, too."""
_STRONGEST: Final = 0.95
"""How likely its answers are good as long as nobody has said."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided for one request."""

    route: Route
    request: ModelRequest
    """For the tier that was chosen."""
    later: Sequence[tuple[str, ModelRequest]]
    """Stronger tiers and the request for each, in order; none within a tool loop."""
    owner: Owner
    vector: Vector | None
    """``None``: nothing is learned from it."""
    is_capped: bool = False
    """Whether the request has a cap of ours."""


@dataclass(frozen=True, slots=True)
class Decider:
    """What a router decides by.

    Args:
        tiers: Cheapest first.
        policy: Of the router.
        roles: By agent, the places of the least and the most tier.
        cascades: Whether answers are judged, so that it may begin at the cheapest.
        outcomes: What was learned; ``None``: nothing is.
        calls: Who has begun tool loops.
        meaning_of: Returns the embedding of a text, if there are embeddings.
        namespace: Under which this router's outcomes stand.
    """

    tiers: Sequence[Tier]
    policy: Policy
    roles: Mapping[str, tuple[int, int]]
    cascades: bool
    outcomes: Outcomes | None
    calls: CallMemory
    meaning_of: Callable[[str], Sequence[float] | None]
    namespace: str

    def decide(self, request: ModelRequest, failed: Set[str] = frozenset()) -> Decided | str | None:
        """Return what was decided, or why no tier can answer.

        Tiers that have *failed* for the same request are not asked, as long as there are others.
        ``None``: the model that it was made for has begun a tool loop, and is none of the tiers.
        """
        needs, reasons = Needs(request), list[str]()
        made: dict[str, ModelRequest] = {}
        for tier in self.tiers:
            lack = tier.lacks(needs)
            there = None if lack else rebound(request, tier.model)
            if there is None:
                reasons.append(f"{tier.name} lacks {lack or 'the form of the request'}")
            else:
                made[tier.name] = there
        if not failed >= made.keys():
            reasons += [
                f"{name} has just failed" for name in sorted(failed) if made.pop(name, None)
            ]
        able = [tier for tier in self.tiers if tier.name in made]
        if not able:
            return "; ".join(reasons)
        features = _features(request, needs)
        owner = self._owner(request)
        text = asked_text(request.messages)
        vector = None
        if self.outcomes is not None:
            vector = vector_of(text, features, self.meaning_of(text))
        knowledge = None if self.outcomes is None else self.outcomes.knowledge(owner.namespace)
        expected: Mapping[str, Expected] = {}
        if knowledge is not None and vector is not None:
            expected = knowledge.expected(vector, [tier.name for tier in self.tiers])
        route = Route(
            tier=able[-1].name,
            model=able[-1].model,
            complexity=features.complexity,
            features=features.as_dict(),
            reasons=(),
            candidates=tuple(made),
            difficulty=features.difficulty,
            expected=expected,
        )
        calls = last_call(request.messages)
        chosen = None if calls is None else self._loop_tier(request, calls, able, reasons)
        if calls is not None and chosen is None:
            return None
        later: tuple[tuple[str, ModelRequest], ...] = ()
        if chosen is None:
            rank = None
            if isinstance(self.policy, float) and knowledge is not None and vector is not None:
                rank = knowledge.rank(vector, self.tiers[0].name, self.tiers[-1].name)
            at = self._place(request, features, route, rank, reasons)
            chosen = next((tier for tier in able if tier.at >= at), able[-1])
            later = tuple((t.name, made[t.name]) for t in able if t.at > chosen.at)
        allowance = allowance_of(request, chosen, features, max(numbers_in(text), default=0))
        route = replace(
            route,
            tier=chosen.name,
            model=chosen.model,
            reasons=tuple(reasons),
            max_tokens=allowance,
        )
        there = made[chosen.name]
        sent = there
        if allowance is not None and (not request.streaming or (later and self.cascades)):
            sent = there.with_output_cap(allowance)
        is_capped = sent is not there
        if is_capped:
            later = ((chosen.name, there), *later)
        return Decided(route, sent, later, owner, vector, is_capped)

    def _at(self, name: str) -> int:
        return next((tier.at for tier in self.tiers if tier.name == name), -1)

    def _owner(self, request: ModelRequest) -> Owner:
        """Return on whose account outcomes of a request go."""
        made_by = attribution_here(request.run.metadata)
        namespace = namespace_of(self.namespace, made_by.organization, made_by.agent)
        return Owner(namespace, made_by.user)

    # Within a tool loop

    def _loop_tier(
        self, request: ModelRequest, calls: AIMessage, able: Sequence[Tier], reasons: list[str]
    ) -> Tier | None:
        """Return the tier that goes on with a tool loop; ``None``: the caller's own model does."""
        begun = self.calls.tier_of(calls, self.tiers)
        if begun is not None and begun in able:
            reasons.append(f"{begun.name} has begun the tool calls")
            return begun
        if begun is None and is_named(request.facts.model_name, calls):
            return None
        what = "is not known" if begun is None else f"{begun.name}, cannot go on"
        reasons.append(f"who has begun the tool calls, {what}: the strongest")
        return able[-1]

    # At the beginning of a turn

    def _place(
        self,
        request: ModelRequest,
        features: Features,
        route: Route,
        rank: float | None,
        reasons: list[str],
    ) -> int:
        """Return the place of the tier at which a turn begins."""
        least, most = self.roles.get(request.facts.attribution.agent, (0, len(self.tiers) - 1))
        if callable(self.policy):
            return self._by_function(features, route, reasons)
        tries = self.cascades and features.complexity is not Complexity.CRITICAL
        if tries:
            at = 0
            reasons.append("the cascade begins with the cheapest")
        elif rank is not None and isinstance(self.policy, float):
            at = tier_at(place_for(self.policy, rank), self.tiers).at
            reasons.append(f"gains more by the strongest than {rank:.0%} of earlier requests")
        else:
            at = tier_at(place_of(self.policy, features), self.tiers).at
            reasons.append(f"{features.complexity.name} under the policy {self.policy!r}")
        if tries:
            at = self._worth_trying(at, route, reasons)
        else:
            at = self._learned(at, route, reasons, may_fall=rank is None and not self.cascades)
        at = self._within_budget(at, request, features, reasons)
        if not least <= at <= most:
            at = min(max(at, least), most)
            reasons.append(f"the role of {request.facts.attribution.agent}")
        return at

    def _by_function(self, features: Features, route: Route, reasons: list[str]) -> int:
        """Ask the user's function; what it cannot say asks the strongest."""
        assert callable(self.policy)
        proposed = tier_at(place_of("balanced", features), self.tiers)
        name = name_of(self.policy)
        try:
            found = self.policy(replace(route, tier=proposed.name, model=proposed.model))
        except Exception as error:  # noqa: BLE001  it is the user's: no call may break for it
            said = f"{name} raised {type(error).__name__}: {error}"
        else:
            if found is None:
                reasons.append(f"{name} has no opinion")
                return proposed.at
            at = self._at(str(found))
            if at >= 0:
                reasons.append(f"{name} says so")
                return at
            said = f"{name} names {found!r}, which is no tier"
        warnings.warn(f"A router: {said}. The strongest is asked.", TokenOptWarning, stacklevel=2)
        reasons.append(f"{said}: the strongest")
        return len(self.tiers) - 1

    def _worth_trying(self, at: int, route: Route, reasons: list[str]) -> int:
        """Pass over tiers whose answer would cost more than what its being good saves."""
        for tier, following in zip(self.tiers[at:], self.tiers[at + 1 :], strict=False):
            found = route.expected.get(tier.name)
            if found is None or found.distance > _RELATED:
                return tier.at
            price = (tier.nano_usd or 0) / (following.nano_usd or math.inf)
            if found.mean >= max(_LEAST_TRIED, price):
                return tier.at
            reasons.append(f"{tier.name} was good in {found}: not worth trying")
        return len(self.tiers) - 1

    def _learned(self, at: int, route: Route, reasons: list[str], *, may_fall: bool) -> int:
        """Pass over tiers that are known to fail, and fall to one that is known to do."""
        expected = route.expected
        if not expected:
            return at
        strongest = expected[self.tiers[-1].name]
        needed = (strongest.mean if strongest.distance <= _ALIKE else _STRONGEST) - self._margin
        while at < len(self.tiers) - 1:
            name = self.tiers[at].name
            if not (expected[name].distance <= _RELATED and expected[name].high < needed):
                break
            reasons.append(f"{name} was good in {expected[name]}")
            at += 1
        if not may_fall or route.complexity is Complexity.CRITICAL:
            return at
        for tier in self.tiers[:at]:
            found = expected[tier.name]
            if found.distance <= _ALIKE and found.low >= needed:
                reasons.append(f"{tier.name} was good in {found}")
                return tier.at
        return at

    @property
    def _margin(self) -> float:
        if isinstance(self.policy, float):
            return 0.25 * (1 - self.policy)
        return _MARGINS.get(str(self.policy), 0.1)

    def _within_budget(
        self, at: int, request: ModelRequest, features: Features, reasons: list[str]
    ) -> int:
        """Go a tier down where a budget runs low, and to the cheapest where it ends.

        Whichever it is: that of the run, or one around it, as a user's of today.
        """
        run = current_run()
        if run is None or not at:
            return at
        paid_from = run.account.reports(run.owners.of(request.facts.attribution))
        used, soft = max(one.used_ratio for one in paid_from), run.plan.soft_limit
        ends = used >= soft + (1 - soft) / 4
        if used >= soft and (features.complexity is not Complexity.CRITICAL or ends):
            reasons.append(f"{used:.0%} of the budget is used")
            return 0 if ends else at - 1
        left = min((_left_nano_usd(one) for one in paid_from), default=math.inf)
        paid = next((n for n in range(at, 0, -1) if (self.tiers[n].nano_usd or 0) <= left), 0)
        if paid < at:
            reasons.append(f"the budget does not pay for a call of {self.tiers[at].name}")
        return paid


def _left_nano_usd(report: BudgetReport) -> float:
    if report.total_nano_usd is None:
        return math.inf
    return report.total_nano_usd - report.spent_nano_usd - report.held_nano_usd


def _features(request: ModelRequest, needs: Needs) -> Features:
    return features_of(
        request.messages,
        tools=len(request.facts.tools),
        structured=request.facts.answer_form.is_structured,
        media=len(needs.media),
    )
