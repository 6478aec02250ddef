"""What is wrong with a run: every checker, and the oracles they ask."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import (
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from tests.judge.delivery_apps import MARGIN, OWN_MARGIN, SLOW_SECONDS, Agent, App, text_of
from tests.judge.delivery_model import Call, Log

# --- plans ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanShape:
    """How a plan divides, apart from how much there is."""

    name: str
    shares: Mapping[str, float] = field(default_factory=dict)
    """Part of the total, by agent."""
    floors: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, int] = field(default_factory=dict)
    priorities: Mapping[str, float] = field(default_factory=dict)
    strategy: str = "priority"
    buffer: float = 0.0
    daily: bool = False
    """A user's day around the run, with the same total."""

    def agents(self, total: int) -> dict[str, dict[str, Any]]:
        """Return what the plan says of agents."""
        said: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, share in self.shares.items():
            said[name]["tokens"] = int(share * total)
        room = total - int(self.buffer * total) - sum(int(s * total) for s in self.shares.values())
        for name, floor in self.floors.items():
            if name in self.shares:
                said[name]["floor"] = min(floor, said[name]["tokens"])
            elif floor <= room:
                said[name]["floor"], room = floor, room - floor
        for name, words in self.words.items():
            said[name]["words"] = words
        for name, priority in self.priorities.items():
            said[name]["priority"] = priority
        return dict(said)

    def part_of(self, agent: str, app: App, total: int) -> int | None:
        """Return the tokens that surely are the agent's own; ``None``: all are everybody's."""
        said = self.agents(total)
        held = {n: s.get("tokens", s.get("floor", 0)) for n, s in said.items()}
        if not any(held.values()):
            return None
        if held.get(agent):
            return held[agent]
        if app.agents[agent].hidden:
            return (total - sum(held.values())) // sum(a.hidden for a in app.agents.values())
        others = [n for n, a in app.agents.items() if not held.get(n) and not a.hidden]
        return (total - sum(held.values())) // max(1, len(others))


PLAN_KINDS = (
    "total",
    "fair shares",
    "some named",
    "floors",
    "floors and shares",
    "priorities",
    "words",
    "own suffices",
)


def plan_shape(rng: random.Random, app: App, needs: Mapping[str, int]) -> PlanShape:
    """Return a plan for *app*, whose agents need what *needs* says."""
    kind = rng.choice(PLAN_KINDS)
    names = [n for n, a in app.agents.items() if not a.hidden]
    whole = sum(needs.values()) or 1
    part = {n: needs.get(n, 0) / whole for n in names}
    noisy = {n: part[n] * rng.uniform(0.7, 1.2) for n in names}
    scale = rng.uniform(0.7, 0.95) / sum(noisy.values())
    fair = {n: noisy[n] * scale for n in names}
    short = {
        n: math.ceil(1.35 * a.calls * a.short_need(app.surplus))
        for n, a in app.agents.items()
        if not a.hidden
    }
    some = rng.sample(names, max(1, len(names) // 2))
    words = {
        n: rng.choice((40, 60, 80, 120))
        for n in some
        if app.agents[n].schema is None and app.language.joint
    }
    buffer = rng.choice((0.0, 0.0, 0.05, 0.1)) if sum(fair.values()) < 0.85 else 0.0
    daily = rng.random() < 0.1
    if kind == "total":
        return PlanShape(kind, daily=daily)
    if kind == "fair shares":
        return PlanShape(kind, shares=fair, buffer=buffer)
    if kind == "some named":
        return PlanShape(kind, shares={n: fair[n] for n in some}, words=words)
    if kind == "floors":
        return PlanShape(kind, floors=short)
    if kind == "floors and shares":
        return PlanShape(kind, shares=fair, floors=short, words=words, buffer=buffer)
    if kind == "priorities":
        priorities = {n: rng.choice((0.5, 1.0, 2.0, 3.0)) for n in names}
        strategy = rng.choice(("priority", "equal", "proportional"))
        return PlanShape(
            kind, priorities=priorities, strategy=strategy, floors={names[-1]: short[names[-1]]}
        )
    if kind == "words":
        return PlanShape(
            kind, words={n: rng.choice((40, 60, 90)) for n in words} or {}, daily=daily
        )
    lucky = rng.sample(names, max(1, len(names) // 3))
    return PlanShape(kind, shares={n: min(0.9 / len(lucky), 1.3 * part[n]) for n in lucky})


# --- runs ----------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """One run, as the judge sees it."""

    total: int | None
    log: Log
    state: Mapping[str, Any] | None
    error: BaseException | None
    seconds: float
    facts: int = 0
    spent_said: int | None = None
    """What the package says was spent."""
    surplus_said: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    """Recorded steps, by agent."""
    denied_said: int | None = None
    compared: bool = False
    """Run with one worker, to be compared with another total."""
    reserved: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """What the report says was kept and used since a call was last made smaller, by agent."""

    @property
    def end(self) -> str:
        """Say how it ended."""
        return "done" if self.error is None else f"{type(self.error).__name__}: {self.error}"


# --- checkers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that must not happen."""

    kind: str
    text: str


def whole_words(text: str) -> int:
    """Count words as a reader does."""
    return len(text.split())


SCARCITY = (
    "made up where a paragraph fits",
    "refused within its own",
    "refused as a whole",
    "unspent",
)
_ENDS = (".", "!", "?", "。", "…", "»", '"', ")", "}", "]", ":")


class Judge:
    """Finds the faults of one run of one application."""

    def __init__(self, app: App, plan: PlanShape, base: Outcome) -> None:
        self.app = app
        self.plan = plan
        self.base = base
        self.need = base.log.spent()

    # what can be seen in one run

    def faults(self, run: Outcome) -> list[Fault]:
        """Return all faults of a run under a plan."""
        found = [*self.account(run), *self.prompts(run), *self.answers(run), *self.end(run)]
        if self.app.ignores_caps:
            # What such models write beyond their caps is missing elsewhere.
            found = [f for f in found if f.kind not in SCARCITY]
        if run.total is not None and run.total >= 2 * self.need:
            found += self.ample(run)
        return found

    def account(self, run: Outcome) -> list[Fault]:
        """Overshoot; a bill that the package does not know; tokens that are left."""
        found = []
        bill = run.log.spent()
        total = run.total or 0
        most = max((a.surplus for a in run.log.attempts), default=0)
        if bill > total + run.log.most_open * most:
            found.append(Fault("overshoot", f"{bill:,} of {total:,}"))
        said = run.spent_said
        if said is not None:
            cancelled = any(a.left for a in run.log.attempts) or not self.app.usage_in_streams
            if (said < bill and self.app.usage_in_streams) or (said != bill and not cancelled):
                found.append(Fault("account is not the bill", f"says {said:,}, billed {bill:,}"))
        foreign = any(a.foreign for a in self.app.agents.values())
        if said is not None and not foreign:
            refused = sum(c.made_up or c.error is not None for c in run.log.calls)
            if run.denied_said is not None and run.denied_said != refused:
                text = f"{run.denied_said} are reported, {refused} were refused"
                found.append(Fault("denied miscounted", text))
        if run.error is None and total >= self.app.short_need and self.degraded(run):
            left = total - (said if said is not None else bill)
            if left > 0.05 * total:
                found.append(
                    Fault(
                        "unspent",
                        f"{left:,} of {total:,} ({left / total:.0%}) though {self.degraded(run)}",
                    )
                )
        return found

    def degraded(self, run: Outcome) -> str:
        """Say what was made less of anything, if it was."""
        if run.total is not None and run.error is None:
            for call in run.log.calls:
                who = call.agent
                if call.made_up:
                    return f"{who}'s answer was made up"
                for a in call.attempts:
                    if a.lost:
                        return f"{who}'s prompt was shortened by {a.lost}"
                    if a.cut:
                        return f"{who}'s answer was cut at {a.cap}"
        for who in self.app.agents.values():
            if who.foreign and run.error is None and (less := self._less_read(run, who.name)):
                return less
        base = Counter(r for r in self.base.log.results)
        if run.error is None and (base - Counter(run.log.results)):
            return "searches were left out"
        return ""

    def _less_read(self, run: Outcome, agent: str) -> str:
        """Say whether an agent, whose calls cannot be seen, read less than without a plan."""
        mine = [a for a in run.log.attempts if a.agent == agent]
        base = [a for a in self.base.log.attempts if a.agent == agent]
        if any(a.cut for a in mine):
            return f"{agent}'s answer was cut"
        read, before = (sum(a.input_tokens for a in each) for each in (mine, base))
        return f"{agent} read {read:,} tokens instead of {before:,}" if read < before else ""

    def prompts(self, run: Outcome) -> list[Fault]:
        """System messages, questions, role lines and rules as they were; valid conversations."""
        found = []
        for a in run.log.attempts:
            who = self.app.agents[a.agent]
            rest = "\n".join(text_of(m) for m in a.received if not isinstance(m, SystemMessage))
            systems = [text_of(m) for m in a.received if isinstance(m, SystemMessage)]
            everything = "\n".join([*systems, rest])
            sent = [text_of(m) for m in a.sent or () if isinstance(m, SystemMessage)]
            if (systems != sent) if a.sent is not None else who.system not in everything:
                got = systems[0][:60] if systems else None
                found.append(
                    Fault("system message changed", f"{a.agent} got {got!r} under {run.total:,}")
                )
            frame = (*who.frame, *([] if sent else [who.system]))
            found += [
                Fault(
                    "question or role line changed",
                    f"{a.agent} lost {line[:60]!r} under {run.total:,}",
                )
                for line in frame
                if line not in everything
            ]
            if (
                any(
                    isinstance(m, HumanMessage | ToolMessage) and not text_of(m).strip()
                    for m in a.received
                )
                or not rest.strip()
            ):
                found.append(
                    Fault("empty prompt", f"{a.agent} got {[text_of(m)[:20] for m in a.received]}")
                )
            if reason := invalid(a.received):
                found.append(Fault("invalid conversation", f"{a.agent}: {reason}"))
        for call in run.log.calls:
            changed = any(a.lost for a in call.attempts)
            if run.spent_said is not None and (changed or call.made_up) and not run.steps:
                found.append(
                    Fault(
                        "not recorded",
                        f"{call.agent}'s call was made smaller, and no event says so",
                    )
                )
        return found

    def answers(self, run: Outcome) -> list[Fault]:
        """Refusals, made-up, empty, broken and too long answers."""
        found = []
        total = run.total or 0
        said = self.plan.agents(total)
        for call in run.log.calls:
            who = self.app.agents[call.agent]
            refused = call.made_up or call.error is not None
            if refused:
                found += self._refused(call, who, said.get(call.agent, {}), total)
            if call.empty:
                found.append(Fault("empty answer", f"{call.agent} under {total:,}"))
            if call.real and call.form == "text":
                limit = said.get(call.agent, {}).get("words")
                found += _shape_of(call.agent, call.text, limit, total)
            if call.form == "object" and call.error is None and not valid(call.answer, who):
                found.append(
                    Fault(
                        "structured answer invalid",
                        f"{call.agent}: {str(call.answer)[:80]!r} under {total:,}",
                    )
                )
        found += self._foreign_answers(run, total)
        return found

    def _refused(self, call: Call, who: Agent, said: Mapping[str, Any], total: int) -> list[Fault]:
        found = []
        least = math.ceil(OWN_MARGIN * who.short_need(self.app.surplus)) * (1 + call.own_open)
        for name in ("tokens", "floor"):
            own = said.get(name, 0)
            if own - call.own_spent >= least:
                own_text = f"{own:,} of its own, {call.own_spent:,} of it spent; {least:,} would do"
                found.append(
                    Fault(
                        "refused within its own",
                        f"{call.agent} has {own_text}: {call.text[:90] or call.error!r}",
                    )
                )
                break
        if total >= self.app.short_need and self._has_part(who, total):
            found.append(
                Fault(
                    "made up where a paragraph fits",
                    f"{call.agent} under {total:,} (short need {self.app.short_need:,}): {call.text[:100] or call.error!r}",
                )
            )
        return found

    def _has_part(self, who: Agent, total: int) -> bool:
        part = self.plan.part_of(who.name, self.app, total)
        return part is None or part >= math.ceil(
            MARGIN * who.calls * who.short_need(self.app.surplus)
        )

    def _foreign_answers(self, run: Outcome, total: int) -> list[Fault]:
        """Agents whose code is somebody else's: is what they end with the model's?"""
        found = []
        if run.state is None:
            return found
        for who in self.app.agents.values():
            if (
                who.foreign
                and who.schema
                and total >= self.app.short_need
                and self._has_part(who, total)
            ):
                answer = run.state.get("objects", {}).get(who.name)
                if not valid(answer, who):
                    text = f"{who.name}: {str(answer)[:80]!r} under {total:,}"
                    found.append(Fault("structured answer invalid", text))
            if not who.foreign or who.name not in run.state.get("reports", {}):
                continue
            text = run.state["reports"][who.name]
            begin = " ".join(text.split())[:24]
            texts = [" ".join(a.text.split()) for a in run.log.attempts if a.agent == who.name]
            limit = self.plan.agents(total).get(who.name, {}).get("words")
            if any(begin in t for t in texts):
                found += _shape_of(who.name, text, limit, total)
            if not text.strip():
                found.append(Fault("empty answer", f"{who.name} under {total:,}"))
            elif (
                not any(begin in t for t in texts)
                and total >= self.app.short_need
                and self._has_part(who, total)
            ):
                found.append(
                    Fault(
                        "made up where a paragraph fits",
                        f"{who.name} under {total:,} (short need {self.app.short_need:,}): {text[:100]}",
                    )
                )
        return found

    def end(self, run: Outcome) -> list[Fault]:
        """Whether the run came to an end that a caller understands."""
        found = []
        if run.error is not None:
            refusal = type(run.error).__module__.startswith("langchain_tokenopt") and bool(
                str(run.error)
            )
            if not refusal:
                found.append(Fault("crash", f"under {run.total:,}: {run.end[:160]}"))
            elif (run.total or 0) >= self.app.short_need:
                found.append(Fault("refused as a whole", f"under {run.total:,}: {run.end[:160]}"))
        if run.seconds > SLOW_SECONDS:
            found.append(Fault("slow", f"{run.seconds:.1f} s"))
        return found

    def ample(self, run: Outcome) -> list[Fault]:
        """With more than enough, everything is as without a plan."""
        found = []
        if self.plan.words:
            return found
        if run.error is not None or self.app.final(run.state or {}) != self.app.final(
            self.base.state or {}
        ):
            found.append(
                Fault("ample budget changes the output", f"under {run.total:,}: {run.end[:80]}")
            )
        if any(a.cap is not None for a in run.log.attempts):
            caps = sorted(a.cap for a in run.log.attempts if a.cap is not None)
            found.append(
                Fault(
                    "ample budget caps",
                    f"max_tokens {caps[0]} under {run.total:,}, the run needs {self.need:,}",
                )
            )
        return found

    # what can be seen in two

    def monotone(self, less: Outcome, more: Outcome) -> list[Fault]:
        """With more tokens nothing ends worse."""
        found: list[Fault] = []
        if self.app.ignores_caps:
            return found
        where = f"{less.total:,} -> {more.total:,}"
        if less.error is None and more.error is not None:
            found.append(Fault("more tokens, no end", f"{where}: {more.end[:120]}"))
            return found
        before, after = self.real_agents(less), self.real_agents(more)
        if len(after) < len(before):
            found.append(
                Fault(
                    "more tokens, fewer reports",
                    f"{where}: {len(before)} -> {len(after)}, lost {sorted(before - after)}",
                )
            )
        if more.facts < less.facts:
            found.append(
                Fault(
                    "more tokens, fewer facts",
                    f"{where}: {less.facts} -> {more.facts} of {self.base.facts}",
                )
            )
        return found

    def real_agents(self, run: Outcome) -> set[str]:
        """Return who has given at least one answer of its own, and none that was made up."""
        real = {c.agent for c in run.log.calls if c.real}
        bad = {c.agent for c in run.log.calls if c.made_up or c.error}
        foreign = {
            a.agent for a in run.log.attempts if self.app.agents[a.agent].foreign and not a.calls
        }
        return (real - bad) | foreign


def _shape_of(agent: str, text: str, limit: int | None, total: int) -> list[Fault]:
    """Say whether an answer ends where a sentence does, and within its words."""
    found = []
    text = text.rstrip()
    if text and not text.endswith(_ENDS):
        found.append(Fault("answer cut off", f"{agent} ends {text[-40:]!r} under {total:,}"))
    if limit and whole_words(text) > limit:
        words = f"{whole_words(text)} of {limit} words"
        found.append(Fault("word limit broken", f"{agent}: {words}"))
    return found


def invalid(messages: Sequence[BaseMessage]) -> str:
    """Say why a provider would refuse a conversation."""
    waiting: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                return f"a result of {message.tool_call_id} that nobody asked for"
            waiting.discard(message.tool_call_id)
        else:
            if waiting:
                return f"no result of {sorted(waiting)[0]}"
            waiting = {c["id"] for c in getattr(message, "tool_calls", ())}
    return f"no result of {sorted(waiting)[0]}" if waiting else ""


def valid(answer: Any, who: Agent) -> bool:
    """Whether a structured answer is what its schema promises."""
    kinds = [
        k for k in (who.options or [who.schema]) if isinstance(k, type) and issubclass(k, BaseModel)
    ]
    if kinds:
        if not isinstance(answer, tuple(kinds)):
            return False
        try:
            type(answer).model_validate(answer.model_dump())
        except ValueError:
            return False
        return True
    if not isinstance(answer, dict):
        return False
    shown = convert_to_openai_tool(who.schema)["function"]["parameters"]
    return set(shown.get("required", shown["properties"])) <= set(answer)
