"""The stage that asks, for each request, the cheapest model that is good enough."""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.core.argument_checks import (
    check_flag,
    did_you_mean,
    names_what,
    shown,
    takes_names,
)
from langchain_tokenopt.core.attribution import metadata_saying
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.host_compat import llm_string_of
from langchain_tokenopt.core.messages import messages_from
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.embeddings import checked_embeddings, embedder_fingerprint
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.routing.complexity import features_of
from langchain_tokenopt.routing.decision import Decided, Decider
from langchain_tokenopt.routing.outcomes import Outcomes, Owner
from langchain_tokenopt.routing.policies import Policy, checked_policy, name_of
from langchain_tokenopt.routing.route import Route
from langchain_tokenopt.routing.route_call import RouteCall
from langchain_tokenopt.routing.tiers import Tier, tiers_of
from langchain_tokenopt.routing.tool_loop import AttemptMemory, CallMemory
from langchain_tokenopt.routing.validators import validators_of
from langchain_tokenopt.routing.vectors import Vector
from langchain_tokenopt.stage import Phase, StageCall
from langchain_tokenopt.tracking.provider_usage import usage_of

__all__ = ["ModelRouter"]

STAGE: Final = "ModelRouter"
_REMEMBERED: Final = 10_000
"""Calls whose outcome may still be reported."""
_RUN_IN_ID: Final = re.compile(r"(?:lc_)?run-+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
"""The id that LangChain gives to an answer without one."""


class _Answered(NamedTuple):
    """What is remembered of a call until its outcome is reported."""

    call: str
    owner: Owner
    tier: str
    vector: Vector


class ModelRouter:
    """Ask, for each request, the cheapest model that is good enough for it.

    A stage: ``optimize(model, ModelRouter({"cheap": small, "strong": large}))``. What is bound to
    *model* (tools, a schema) reaches whichever model answers, in that one's own format.

    A request goes to the tier that its complexity is for under the *policy*. Outcomes that are
    reported (:meth:`report`), or found by a *cascade*, move that, once there are enough of requests
    like it. Never asked is a model that lacks what the request needs (tools, structured output,
    images, window; by the model's ``profile``), nor another one within a tool loop: each answer
    carries the name of its tier (``response_metadata["tokenopt_tier"]``), so that a conversation
    goes on rightly in another process. Where something is not clear the strongest is asked. A call
    that names its model (``bind(model=...)``) is left alone, and so is one that no tier can answer.

    A *cascade* begins with the cheapest, except where a request is CRITICAL, and asks the next tier
    where a validator says ``False`` of its answer. Both answers are billed, budgeted and recorded,
    each under its model. Of a stream the caller sees the answer that stands, once it is judged.

    Answers have an allowance (``Route.max_tokens``), many times what such answers take, where the
    model's ``profile`` says how long they may be; one that reaches it is asked for again without.

    Args:
        models: Chat models by the names of their tiers, sorted by price where all prices are known;
            or a list, cheapest first, whose tiers are named as their models.
        policy: ``"cheap"``, ``"balanced"`` or ``"strong"``; a number, how much of the way from the
            cheapest to the strongest is paid for on average; or a function that is given the
            :class:`Route` that is proposed, and returns the name of a tier, or ``None``.
        roles: By agent the least tier for it, or the least and the most: ``("cheap", "cheap")``.
        cascade: What judges answers: a function of the ``AIMessage`` (``False``: ask the next;
            ``None``: no opinion; it may be asynchronous), a pydantic class, a
            :class:`~langchain_tokenopt.WordLimit`, ``"refusal"``, ``"confidence"``, or several.
        learn: Whether outcomes move decisions. Those of an agent and an organization (``tenant_id``
            in the metadata) are used for no other.
        store: A file in which outcomes are kept: as numbers, never as text.
        embeddings: Compares requests by meaning as well, which takes as long as an embedding does;
            by default by their words and what else can be counted. Needs *learn*.

    Raises:
        ValueError: There are fewer than two models, or a role, policy or validator is none.
        TypeError: A tier is no chat model, or has stages of its own.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import optimize
        >>> models = {name: FakeListChatModel(responses=[name]) for name in ("cheap", "strong")}
        >>> model = optimize(models["strong"], ModelRouter(models))
        >>> model.invoke("What is the capital of France?").content
        'cheap'
        >>> model.invoke("Analyse why it fails, compare 3 ways out, and plan each step.").content
        'strong'
    """

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
        embeddings: Embeddings | None = None,
    ) -> None:
        self.tiers = tiers_of(models)
        self.policy = checked_policy(policy)
        self._validators = validators_of(cascade)
        self._embeddings = checked_embeddings(embeddings)
        self._outcomes = Outcomes(store) if check_flag("learn", learn) else None
        self._decider = Decider(
            tiers=self.tiers,
            policy=self.policy,
            roles=_checked_roles(roles, self.tiers),
            cascades=bool(self._validators),
            outcomes=self._outcomes,
            calls=CallMemory(),
            meaning_of=self._meaning_of,
            namespace=_digest(
                [
                    *((tier.name, tier.facts.model_name) for tier in self.tiers),
                    None if embeddings is None else embedder_fingerprint(embeddings),
                ]
            ),
        )
        self._attempts = AttemptMemory()
        self._answered: OrderedDict[str, _Answered] = OrderedDict()
        self._lock = threading.Lock()
        self._has_warned: set[str] = set()
        models_ = [(tier.name, llm_string_of(tier.model, None, {})) for tier in self.tiers]
        how = getattr(self.policy, "__qualname__", self.policy)
        judged_by = [validator.name for validator in self._validators]
        self.fingerprint = f"{STAGE}:{_digest([models_, how, roles, judged_by])}"
        """Names every setting that changes answers."""

    @property
    def blocking(self) -> bool:
        """Whether a text is embedded, or a file is read: its own, or the budget's."""
        if self._outcomes is not None and (self._outcomes.waits or self._embeddings is not None):
            return True
        run = current_run()
        return run is not None and run.account.blocking

    def __repr__(self) -> str:
        """Show the tiers, cheapest first."""
        names = " < ".join(tier.name for tier in self.tiers)
        policy = name_of(self.policy) if callable(self.policy) else f"policy={self.policy!r}"
        return f"ModelRouter({names}, {policy})"

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelRouter:
        """Return itself: copies learn, and forget, together."""
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Say why it cannot be pickled."""
        raise TypeError(
            "A ModelRouter cannot be pickled: it holds models, locks and what was learned. Make "
            "one in each process; with the same store=PATH they learn together."
        )

    # Stage

    def open(self, request: ModelRequest) -> StageCall | None:
        """Put the model that was chosen into the request."""
        if request.kwargs.get("model"):  # whoever names a model wants that one
            return None
        failed = self._attempts.failed(request)
        if failed is None:  # another model than the router stands around: a fallback
            return None
        decided = self._decider.decide(request, failed)
        if isinstance(decided, str):
            self._warn(decided, request)
        if not isinstance(decided, Decided) or request.observe:
            return None
        if STAGE not in request.run.stages:
            request.run.stages.append(STAGE)
        return RouteCall(
            decided,
            self._validators,
            note_calls=self._decider.calls.note,
            learn=lambda tier, good: self._learn_from(request, decided, tier, good),
            ended=lambda *told: self._end(request, decided, *told),
            failed=lambda tier: self._attempts.note(request, tier),
        )

    def _meaning_of(self, text: str) -> Sequence[float] | None:
        """Return the embedding of a text; ``None``: there is none."""
        if self._embeddings is None or not text.strip():
            return None
        try:
            return self._embeddings.embed_query(text)
        except Exception as error:  # noqa: BLE001  a model of somebody's: requests go on without
            self._say_once("embeddings", f"A request could not be embedded ({error!r}).")
            return None

    def _learn_from(self, request: ModelRequest, decided: Decided, tier: str, good: float) -> None:
        if decided.vector is not None:
            call = str(request.run.run_id)
            self._add(_Answered(call, decided.owner, tier, decided.vector), good)

    def _add(self, answered: _Answered, good: float) -> None:
        """Take in an outcome; learning breaks no call."""
        assert self._outcomes is not None
        try:
            self._outcomes.add(answered.owner, answered.call, answered.tier, good, answered.vector)
        except Exception as error:  # noqa: BLE001  a file, or numbers that nobody has foreseen
            self._say_once("outcome", f"An outcome could not be learned from ({error!r}).")

    def _end(
        self, request: ModelRequest, decided: Decided, answer: Answer, tier: str, spent: Usage
    ) -> None:
        """Remember who has answered, and record what that saved."""
        self._attempts.forget(request)
        if decided.vector is not None:
            call = str(request.run.run_id)
            answered = _Answered(call, decided.owner, tier, decided.vector)
            with self._lock:
                for key in (call, answer.message.id):
                    if key:
                        self._answered[key] = answered
                while len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
        run = request.run
        if run.refused:
            return
        usage = usage_of(answer, decided.request, run.pieces, run.received)
        saved = self._saved_nano_usd(request, usage, tier, spent)
        if saved or spent.total_tokens:
            run.savings.append(
                Saving(
                    stage=STAGE,
                    tokens_before=usage.total_tokens,
                    tokens_after=usage.total_tokens,
                    spent_tokens=spent.total_tokens,
                    saved_nano_usd=saved,
                    run_id=run.run_id,
                )
            )

    def _saved_nano_usd(
        self, request: ModelRequest, usage: Usage, tier: str, spent: Usage
    ) -> int | None:
        """Return what the caller's own model would have cost, less what was paid."""
        chosen = next(one for one in self.tiers if one.name == tier).facts
        tried = request.run.elsewhere if spent.total_tokens else ()
        # What was spent and is nobody else's bill is this tier's: an answer that was cut.
        bills = [(each.usage, each.model, each.provider) for each in tried]
        left = [spent.input_tokens, spent.output_tokens]
        for each, _, _ in bills:
            left = [max(0, left[0] - each.input_tokens), max(0, left[1] - each.output_tokens)]
        own = chosen.billed_name, chosen.billed_by
        bills += [(usage, *own), (Usage(*left), *own)]
        card = default_rate_card()
        paid = [card.price(*bill).cost_nano_usd for bill in bills]
        facts = request.facts
        would = card.price(usage, facts.billed_name, facts.billed_by).cost_nano_usd
        return None if would is None or None in paid else would - sum(each or 0 for each in paid)

    # What is decided, and why

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
        strongest = self.tiers[-1]
        given = [messages] if isinstance(messages, BaseMessage) else messages
        kwargs = {"tools": schemas} if schemas else {}
        run = StagedRun(run_id=uuid4(), metadata=metadata_saying(agent))
        request = ModelRequest(strongest.model, list(messages_from(given)), None, kwargs, run)
        decided = self._decider.decide(request)
        if isinstance(decided, Decided):
            return decided.route
        features = features_of(request.messages, tools=len(schemas))
        return Route(
            tier=strongest.name,
            model=strongest.model,
            complexity=features.complexity,
            features=features.as_dict(),
            reasons=(decided or "none of the tiers has begun the tool calls", "the strongest"),
            difficulty=features.difficulty,
        )

    # Outcomes

    def report(self, answer: BaseMessage | UUID | str, good: bool | float) -> bool:
        """Say how good an answer was; decisions for requests like it follow.

        Args:
            answer: The answer, its ``id``, or the id of its run (``CallRecord.run_id``).
            good: Whether it was, or how good, from 0 to 1.

        Returns:
            Whether the answer is known, and is learned from. A later word on the same answer
            replaces the earlier one.

        Raises:
            ValueError: *good* is not from 0 to 1.
            TypeError: *answer* is none of these.
        """
        if not isinstance(good, int | float) or not 0 <= good <= 1:
            raise ValueError(f"good must be true, false, or from 0 to 1; got {shown(good)}.")
        key = answer.id or "" if isinstance(answer, BaseMessage) else answer
        if not isinstance(key, UUID | str):
            raise TypeError(
                f"report() takes an answer, its id or the id of a run; got {shown(answer)}."
            )
        named = _RUN_IN_ID.match(str(key))
        with self._lock:
            found = self._answered.get(str(key))
            if found is None and named is not None:
                found = self._answered.get(named.group(1))
        if found is None or self._outcomes is None:
            return False
        self._add(found, float(good))
        return True

    def take_verdict(self, run_id: UUID, quality: float) -> None:
        """Hear from a quality guard how good an answer was."""
        self.report(run_id, min(1.0, max(0.0, quality)))

    @names_what("clear()")
    def forget(self, *, user: str) -> int:
        """Forget the outcomes of a user's requests; return how many there were.

        Raises:
            TypeError: *user* is ``None``, as where nobody is signed in.
        """
        if self._outcomes is None:
            return 0
        with self._lock:
            mine = [key for key, one in self._answered.items() if one.owner.user == user]
            for key in mine:
                del self._answered[key]
        return self._outcomes.forget(self._decider.namespace, user)

    def clear(self) -> int:
        """Forget all outcomes; return how many there were."""
        with self._lock:
            self._answered.clear()
        return 0 if self._outcomes is None else self._outcomes.clear(self._decider.namespace)

    # Agents

    def check_agent(self, has_tools: bool) -> None:
        """Refuse to route for an agent whose tools no tier can call.

        Raises:
            ValueError: So it is.
        """
        if has_tools and not any(tier.calls_tools for tier in self.tiers):
            names = ", ".join(tier.name for tier in self.tiers)
            raise ValueError(
                f"The agent has tools, and no tier of its router can call any ({names}): give "
                f"models with bind_tools, or an agent without tools."
            )

    # Warnings

    def _warn(self, reason: str, request: ModelRequest) -> None:
        name = request.facts.model_name or type(request.model).__name__
        self._say_once(
            reason,
            f"No tier of the router has all that a request needs ({reason}): it goes on with the "
            f"model that it was made for, {name}.",
        )

    def _say_once(self, key: str, message: str) -> None:
        if key not in self._has_warned:
            self._has_warned.add(key)
            warnings.warn(message, TokenOptWarning, stacklevel=3)


def _digest(settings: Any) -> str:
    return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()


def _checked_roles(roles: Any, tiers: Iterable[Tier]) -> dict[str, tuple[int, int]]:
    """Return by agent the places of the least and the most tier.

    Raises:
        ValueError: There is no such tier, or the most is below the least.
        TypeError: They are no mapping.
    """
    if roles is None:
        return {}
    if not isinstance(roles, Mapping):
        raise TypeError(
            f"roles are a mapping of agents to tiers, such as {{'judge': 'strong'}}; got "
            f"{shown(roles)}."
        )
    places = {tier.name: tier.at for tier in tiers}
    strongest = [*places][-1]
    found = {}
    for agent, given in roles.items():
        pair = given if isinstance(given, tuple | list) else (given, strongest)
        for name in pair:
            if name not in places:
                raise ValueError(
                    f"roles: {agent!r} is given the tier {shown(name)}, which there is not."
                    f"{did_you_mean(name, places)} Tiers are {', '.join(places)}."
                )
        if len(pair) != 2 or places[pair[0]] > places[pair[1]]:
            raise ValueError(
                f"roles: {agent!r} needs a tier, or the least and the most in a pair; got "
                f"{shown(given)}."
            )
        found[str(agent)] = places[pair[0]], places[pair[1]]
    return found
