"""A stage whose settings move with what calls cost and how good their answers were."""

from __future__ import annotations

import hashlib
import random
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.core.argument_checks import (
    is_number,
    names_what,
    shown,
    takes_names,
)
from langchain_tokenopt.core.attribution import Attribution, attribution_of, said_around
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import TuningStep, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.learn.ladder import Settings, default_in, ladder_of
from langchain_tokenopt.learn.setting_bandit import ENOUGH, Arm, Bandit, Step, prior_of
from langchain_tokenopt.learn.tuned_stage import tuned_stage
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Stage, TunableStage
from langchain_tokenopt.storage.learned_store import (
    LearnedKey,
    LearnedStore,
    LearnedValue,
    user_key,
)
from langchain_tokenopt.tracking.provider_usage import usage_of

__all__ = ["AutoTune"]

Value = TypeVar("Value")

_KIND: Final = "tuning"
_FREEZING: Final = "tuning frozen"
_REMEMBERED: Final = 10_000
"""Calls of which it is known which setting they used."""
_PRIOR_USERS: Final = 32
_PRIOR_CALLS: Final = 32
"""Calls of one agent after which it is asked again what other users' calls have shown."""


@dataclass(slots=True)
class _Use:
    """The setting that one call uses."""

    owner: LearnedKey
    at: int
    stage: Stage
    is_default: bool
    verdict: float | None = None
    is_judged: bool = False
    ids: tuple[str, ...] = ()


class AutoTune(Runnable[Any, Any]):
    """Move the settings of a stage, in small steps and within bounds, by what they do.

    Around a model it stands in the place of the stage: ``optimize(model, AutoTune(WordLimit(200),
    bounds={"max_words": (80, 200)}))``. Between the bounds stand a few settings, your own among
    them. Calls use the cheapest whose answers are known to be good enough; now and then, as far as
    earlier good answers allow, one tries a neighbour. ``learn/setting_bandit.py`` says the formula
    and its sources. The setting of a call is fixed at its start, and never outside of the bounds.

    What a call costs is read from what its provider reports, in money where the model's price is
    known, else in tokens. How good an answer is, you say with :meth:`record`; a
    :class:`~langchain_tokenopt.QualityGuard` around the tuner does with each of its trials. Where
    the stage itself has had to cut an answer, that answer counts as bad, whatever else is said.
    *Without verdicts nothing moves*: all calls use your own setting, and :meth:`explain` says so.

    Each agent has settings of its own, and so has each of its users (``user_id`` in the metadata,
    or the user of a ``token_scope``). Other users' calls count for a user's as a prior: where at
    least five agree, the oddest left out, with a weight of 60 calls at most.

    Tuned can be the limits of :class:`~langchain_tokenopt.WordLimit` (not with
    ``on_exceed="raise"``), ``max_tokens`` or ``keep`` of
    :class:`~langchain_tokenopt.PromptCompressor`, ``max_tools`` and ``max_tokens`` of
    :class:`~langchain_tokenopt.ToolSelector`, ``min_similarity`` of
    :class:`~langchain_tokenopt.SemanticCache`, and your own
    :class:`~langchain_tokenopt.stage.TunableStage`. Several move together.

    In a pipe (``model | AutoTune(...)``), where costs are not seen, calls use what was learned of
    their agent around models. If tuning fails, calls use your own setting.

    Args:
        stage: What is tuned, with your own settings.
        targets: The mean quality that answers must have, from 0 to 1, as a number or as
            ``{"quality": 0.9}``.
        bounds: By setting, the lowest and the highest value.
        store: Where it is kept: a :class:`~langchain_tokenopt.LearnedStore` or a file; by default
            it is forgotten with the process.
        namespace: Keeps applications apart in one store.
        sinks: Receive each :class:`~langchain_tokenopt.TuningStep`.
        seed: Of the draws.
        steps: Settings between your own and each bound, the bound included, at most.
        own_verdicts: Whether what the stage itself knows is enough: an answer that a limit did not
            have to cut is good. Only for who cares for nothing else: a model may keep a limit by
            leaving out what was asked for.
        rates: Prices; by default those of the package.

    Raises:
        ValueError: *targets* or *bounds* cannot be met, or the stage has nothing to tune.
        TypeError: The stage cannot be tuned, or an argument is of another kind.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import WordLimit, optimize
        >>> tuner = AutoTune(WordLimit(120), bounds={"max_words": (60, 120)}, seed=7)
        >>> model = optimize(FakeListChatModel(responses=["Ada won in 1952."]), tuner)
        >>> answer = model.invoke("Who won?")
        >>> tuner.record(1.0, answer)
        True
        >>> print(tuner.explain())
        default: max_words 120, your own (bounds 60 to 120): 1 of 30 judged calls that are needed
    """

    @takes_names
    def __init__(
        self,
        stage: Stage,
        *,
        targets: float | Mapping[str, float] = 0.9,
        bounds: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
        store: LearnedStore | str | Path | None = None,
        namespace: str = "default",
        sinks: Sequence[UsageSink] = (),
        seed: int | None = None,
        steps: int = 4,
        own_verdicts: bool = False,
        rates: RateCard | None = None,
    ) -> None:
        self._name = type(stage).__name__
        if not (isinstance(stage, Stage) and isinstance(stage, TunableStage)):
            raise TypeError(
                f"{shown(stage)} cannot be tuned: a stage says with tunable and with_settings() "
                f"which of its settings may be moved."
            )
        self.target = _target(targets)
        tunable = stage.tunable
        self.ladder = ladder_of(tunable, bounds, steps, self._name)
        """The settings between which is chosen, the dearest first."""
        self._default = default_in(self.ladder, tunable)
        self._views = [
            stage if at == self._default else stage.with_settings(settings)
            for at, settings in enumerate(self.ladder)
        ]
        self.store = store if isinstance(store, LearnedStore) else LearnedStore(store)
        said = repr((self.ladder, self._default)).encode()
        digest = hashlib.blake2b(said, digest_size=6).hexdigest()
        self._namespace = f"{namespace}/{self._name}-{digest}"
        self._sinks, self._rates, self._own_verdicts = checked_sinks(sinks), rates, own_verdicts
        self._draw = random.Random(seed)
        self._uses: OrderedDict[str, _Use] = OrderedDict()
        self._priors: dict[LearnedKey, tuple[int, Sequence[Arm]]] = {}
        self._lock = threading.Lock()
        self._has_warned = self._has_frozen = False
        fingerprint = f"{stage.fingerprint}~{digest}" if stage.fingerprint else ""
        self._stage = tuned_stage(stage, self, fingerprint, waits=self.store.path is not None)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What ``optimize`` puts around the model."""
        return (self._stage,)

    # Verdicts

    def record(
        self,
        quality: float,
        answer: BaseMessage | str | None = None,
        *,
        run_id: UUID | str | None = None,
        agent: str | None = None,
        user: str | None = None,
    ) -> bool:
        """Say how good an answer was.

        Args:
            quality: From 0 (useless) to 1.
            answer: Which, or its ``id``. By default that to the last call that was not judged yet;
                where calls run side by side, say which.
            run_id: In place of the answer the id of the model's run, as in ``CallRecord.run_id``.
            agent: Only a call of this agent is meant.
            user: Only a call of this user is meant.

        Returns:
            Whether the call is known and was not judged before.

        Raises:
            ValueError: *quality* is not from 0 to 1.
            TypeError: *answer* or *run_id* is none of these.

        Example:
            >>> from langchain_tokenopt import WordLimit
            >>> AutoTune(WordLimit(120), bounds=(60, 120)).record(1.0)
            False
        """
        if not isinstance(quality, int | float) or not 0 <= quality <= 1:
            raise ValueError(f"quality must be a number from 0 to 1; got {shown(quality)}.")
        use = self._use_of(answer if run_id is None else run_id, agent, user)
        if use is None:
            return False
        self._safely(lambda: self._judge(use, float(quality)))
        return True

    def take_verdict(self, run_id: UUID, quality: float) -> None:
        """Hear from a quality guard how good an answer was."""
        self.record(min(1.0, max(0.0, quality)), run_id=run_id)

    def _use_of(self, call: Any, agent: str | None, user: str | None) -> _Use | None:
        """Return the call that is meant, from now on judged."""
        if isinstance(call, BaseMessage):
            call = call.id or ""
        if call is not None and not isinstance(call, UUID | str):
            raise TypeError(
                f"call must be an answer, its id or the id of a run, not {shown(call)}."
            )

        def is_meant(use: _Use) -> bool:
            owner = use.owner
            named = agent in (None, owner.key) and user in (None, owner.user)
            return named and not use.is_judged

        with self._lock:
            if call is None:
                found = next(filter(is_meant, reversed(self._uses.values())), None)
            else:
                found = self._uses.get(_id(call))
                found = found if found is not None and is_meant(found) else None
            if found is not None:
                found.is_judged = True
            return found

    def _judge(self, use: _Use, quality: float) -> None:
        verdict = quality if use.verdict is None else min(quality, use.verdict)
        self._learn(use.owner, lambda bandit: bandit.judge(use.at, verdict))

    # One call

    def choose(self, request: ModelRequest) -> _Use:
        """Choose the setting of a call; it stays what it is, whatever is learned meanwhile."""
        owner = self._owner(request.facts.attribution)
        at = self._safely(lambda: self._choice(owner))
        at = self._default if at is None else at
        return _Use(owner, at, self._views[at], at == self._default)

    def _choice(self, owner: LearnedKey) -> int:
        bandit = self._bandit(self.store.get(owner), self._prior(owner))
        return bandit.choose(self._draw.random())

    def end(
        self, chosen: _Use, request: ModelRequest, answer: Answer, verdict: float | None
    ) -> None:
        """Take in what a call has cost, and remember which setting it used."""
        chosen.verdict = verdict
        self._safely(lambda: self._end(chosen, request, answer))

    def _end(self, use: _Use, request: ModelRequest, answer: Answer) -> None:
        ids = (str(request.run.run_id), answer.message.id or "")
        with self._lock:
            self._uses.update((each, use) for each in ids if each)
            while len(self._uses) > _REMEMBERED:
                self._uses.popitem(last=False)
        tokens, nano_usd = self._cost(request, answer)

        def bill(bandit: Bandit) -> Step | None:
            bandit.unit = bandit.unit or ("tokens" if nano_usd is None else "nano_usd")
            cost = tokens if bandit.unit == "tokens" else nano_usd
            return None if cost is None else bandit.bill(use.at, cost)

        self._learn(use.owner, bill)
        if self._own_verdicts and use.verdict is not None:
            self.record(use.verdict, run_id=request.run.run_id)

    def drop(self, chosen: _Use) -> None:
        """Nothing is learned from a call without an answer."""

    def _cost(self, request: ModelRequest, answer: Answer) -> tuple[float, float | None]:
        """Return what a call took in tokens, and in money where that is known."""
        if answer.from_cache:
            return 0.0, 0.0
        run, facts = request.run, request.facts
        usage = usage_of(answer, request, run.pieces, run.received)
        usage = usage if run.earlier is None else run.earlier + usage
        card = default_rate_card() if self._rates is None else self._rates
        asked = run.sent_model or facts.billed_name, run.sent_provider or facts.billed_by
        bills = [(usage, *asked), *((a.usage, a.model, a.provider) for a in run.elsewhere)]
        prices = [card.price(*bill).cost_nano_usd for bill in bills]
        money = None if None in prices else float(sum(price or 0 for price in prices))
        return float(sum(bill[0].total_tokens for bill in bills)), money

    # What is known

    def _owner(self, made_by: Attribution) -> LearnedKey:
        """Return under what the evidence of a caller's calls stands."""
        around = dict(said_around())
        user = made_by.user or around.get("user")
        organization = made_by.organization or around.get("organization")
        namespace = f"{self._namespace}/{organization}" if organization else self._namespace
        return LearnedKey(_KIND, namespace, user or None, made_by.agent)

    def _bandit(self, kept: Any, prior: Sequence[Arm] = ()) -> Bandit:
        """Return what is known of an owner's calls; with nothing kept, nothing is."""
        bandit = Bandit([Arm() for _ in self.ladder], self._default, self.target)
        if kept is not None:
            bandit.restore(kept)
        bandit.prior, bandit.is_frozen = prior, self.is_frozen
        return bandit

    def _prior(self, owner: LearnedKey) -> Sequence[Arm]:
        """Return what other users' calls have shown; it is asked for again after some calls."""
        if owner.user is None:
            return ()
        left, prior = self._priors.get(owner, (0, ()))
        if not left:
            left, prior = _PRIOR_CALLS, prior_of(self._others(owner), self._default)
            if len(self._priors) >= _REMEMBERED:
                self._priors.clear()
        self._priors[owner] = left - 1, prior
        return prior

    def _others(self, owner: LearnedKey) -> list[list[Arm]]:
        """Return what is known of other users' calls of the same agent, in one unit."""
        own = user_key(owner.user)
        found = [
            self._bandit(one.value)
            for one in self.store.latest(owner, _PRIOR_USERS)
            if one.user != own
        ]
        return [bandit.arms for bandit in found if bandit.unit == found[0].unit]

    def _learn(self, owner: LearnedKey, learn: Callable[[Bandit], Step | None]) -> None:
        prior = self._prior(owner)
        taken: list[Step | None] = []

        def change(kept: Any) -> Any:
            bandit = self._bandit(kept, prior)
            taken[:] = [learn(bandit)]
            return bandit.as_json()

        self.store.update(owner, change)
        for step in filter(None, taken):
            organization = self._organization_in(owner.namespace)
            notify(self._sinks, self._told(step, owner.key, owner.user, organization))

    def _told(
        self, step: Step, agent: str, user: str | None, organization: str | None
    ) -> TuningStep:
        return TuningStep(
            stage=self._name,
            agent=agent,
            before=self.ladder[step.before],
            after=self.ladder[step.after],
            reason=step.reason,
            calls=step.calls,
            user=user,
            organization=organization,
        )

    def _safely(self, act: Callable[[], Value]) -> Value | None:
        """Do it; where it fails, warn once and go on with the user's own settings."""
        try:
            return act()
        except Exception as error:  # noqa: BLE001  whatever fails here is no part of the call
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"Tuning of {self._name} failed ({type(error).__name__}: {error}). Calls go on "
                    f"with your own settings.",
                    TokenOptWarning,
                    stacklevel=4,
                )
            return None

    # Looking, and taking hold

    def history(self, agent: str | None = None, user: str | None = None) -> list[TuningStep]:
        """Return the last 40 steps of each agent and user, oldest first."""
        return [
            self._told(step, found.key, found.user, self._organization_in(found.namespace))
            for found, bandit in self._known(agent, user)
            for step in bandit.steps
        ]

    def settings(self, agent: str = "default", user: str | None = None) -> Settings:
        """Return the settings that calls use now, but for those that try a neighbour."""
        owner = self._owner(Attribution(agent=agent, user=user))
        return dict(self.ladder[self._bandit(self.store.get(owner)).at])

    def explain(self, agent: str | None = None, user: str | None = None) -> str:
        """Say which settings calls use, and why: a line for each agent and user."""
        head = ["Frozen: nothing moves until unfreeze()."] if self.is_frozen else []
        lines = [self._line(found, bandit) for found, bandit in self._known(agent, user)]
        return "\n".join([*head, *(lines or ["No calls yet: all will use your own settings."])])

    def freeze(self) -> None:
        """Let all settings stay where they are, in all processes, until :meth:`unfreeze`."""
        self._has_frozen = True
        self.store.update(LearnedKey(_FREEZING, self._namespace), lambda _: True)

    def unfreeze(self) -> None:
        """Let settings move again."""
        self._has_frozen = False
        self.store.update(LearnedKey(_FREEZING, self._namespace), lambda _: None)

    @property
    def is_frozen(self) -> bool:
        """Whether settings stay where they are."""
        return self._has_frozen or bool(self.store.get(LearnedKey(_FREEZING, self._namespace)))

    def reset(self) -> None:
        """Go back to your own settings, and forget everything that was learned.

        Raises:
            sqlite3.Error: The file stays locked or cannot be written: nothing is forgotten.
        """
        self.store.forget(kind=_KIND, namespace=self._namespace)
        self._drop_uses(lambda _: True)

    @names_what("reset()")
    def forget(self, user: str) -> int:
        """Forget what was learned from the calls of a user, in every organization.

        Returns:
            Of how many agents something was known.

        Raises:
            sqlite3.Error: The file stays locked or cannot be written: nothing is forgotten.
        """
        found = self.store.forget(kind=_KIND, namespace=self._namespace, user=user)
        self._drop_uses(lambda use: use.owner.user == user)
        return found

    def _drop_uses(self, is_meant: Callable[[_Use], bool]) -> None:
        with self._lock:
            self._priors.clear()
            for each in [each for each, use in self._uses.items() if is_meant(use)]:
                del self._uses[each]

    def _known(self, agent: str | None, user: str | None) -> Iterator[tuple[LearnedValue, Bandit]]:
        for found in self.store.values(_KIND, self._namespace, user):
            if agent in (None, found.key):
                yield found, self._bandit(found.value)

    def _organization_in(self, namespace: str) -> str | None:
        return namespace.removeprefix(self._namespace).removeprefix("/") or None

    def _line(self, found: LearnedValue, bandit: Bandit) -> str:
        parts = (found.key, found.user, self._organization_in(found.namespace))
        whose = " of ".join(filter(None, parts))
        highest, lowest = self.ladder[0], self.ladder[-1]
        shown_ = ", ".join(
            f"{name} {value:g}{', your own' * (bandit.at == self._default)} "
            f"(bounds {lowest[name]:g} to {highest[name]:g})"
            for name, value in self.ladder[bandit.at].items()
        )
        if bandit.is_thin:
            own = bandit.arms[self._default]
            why = f"{own.judged:.0f} of {ENOUGH:.0f} judged calls that are needed"
        else:
            arm = bandit.arms[bandit.at]
            low, high = arm.quality_bounds()
            step = f"; last step: {bandit.steps[-1].reason}" if bandit.steps else ""
            why = f"quality {low:.2f} to {high:.2f}, {self.target:g} is asked for{step}"
        return f"{whose}: {shown_}: {why}"

    # A runnable in a pipe

    def _view(self, config: RunnableConfig | None) -> Any:
        owner = self._owner(attribution_of(ensure_config(config).get("metadata") or {}))
        bandit = self._safely(lambda: self._bandit(self.store.get(owner), self._prior(owner)))
        view = self._views[self._default if bandit is None else bandit.at]
        if not isinstance(view, Runnable):
            raise TypeError(f"{self._name} stands around a model: optimize(model, AutoTune(...)).")
        return view

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Do what the stage does in a pipe, with the settings that were learned."""
        return self._view(config).invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As :meth:`invoke`."""
        return await self._view(config).ainvoke(input, config, **kwargs)

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """As :meth:`invoke`, piece by piece."""
        yield from self._view(config).transform(input, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """As :meth:`invoke`, piece by piece."""
        async for piece in self._view(config).atransform(input, config, **kwargs):
            yield piece


def _id(call: UUID | str) -> str:
    """Return the id by which a call is known; LangChain's messages carry it between other parts."""
    return re.sub(r"^(?:lc_)?run-{1,2}|(?<=[0-9a-f]{12})-\d+$", "", str(call))


def _target(targets: Any) -> float:
    quality = targets
    if isinstance(targets, Mapping):
        if set(targets) != {"quality"}:
            raise ValueError(f'targets are a quality, {{"quality": 0.9}}; got {shown(targets)}.')
        quality = targets["quality"]
    if not is_number(quality) or not 0 < quality < 1:
        raise ValueError(
            f"The target must lie between 0 and 1, such as 0.9; got {shown(quality)}. No number of "
            f"answers can show that none is ever worse."
        )
    return float(quality)
