"""Laws over generated interleavings: nothing of one user reaches another, no loss goes untold."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.export.fan_out import FanOut, Lost, Message, Subscription, id_of
from langchain_tokenopt.export.viewers import Viewer
from tests.support.ledger_records import record

USERS = (None, "ann", "bob", "(none)", "*")
ORGANIZATIONS = (None, "acme", "globex")
VIEWERS = (
    Viewer(user="ann"),
    Viewer(user="bob"),
    Viewer(user="ann", organization="acme"),
    Viewer(organization="acme"),
    Viewer(sees_all=True),
)

_owners = st.tuples(st.sampled_from(USERS), st.sampled_from(ORGANIZATIONS))
_events = st.one_of(
    st.tuples(st.sampled_from(["usage", "alert", "saving of the last call"]), _owners),
    st.tuples(st.just("saving of nobody"), st.just((None, None))),
)
_viewers = st.integers(0, len(VIEWERS) - 1)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), _events),
        st.tuples(st.just("take"), _viewers),
        st.tuples(st.just("leave"), _viewers),
        st.tuples(st.just("come"), _viewers),
    ),
    max_size=60,
)


def event_of(kind: str, owner: tuple[str | None, str | None], last: CallRecord) -> UsageEvent:
    user, organization = owner
    if kind == "usage":
        return record(attribution=Attribution("a", user=user, organization=organization))
    if kind == "alert":
        return BudgetEvent(
            kind="alert",
            budget="b",
            agent="a",
            spent_tokens=1,
            held_tokens=0,
            limit_tokens=2,
            user=user,
            organization=organization,
        )
    run_id = last.run_id if kind == "saving of the last call" else None
    return Saving(stage="s", tokens_before=2, tokens_after=1, run_id=run_id)


class Watching:
    """One viewer, and what an exact oracle says that it must get."""

    def __init__(self, fan_out: FanOut, viewer: Viewer) -> None:
        self.fan_out = fan_out
        self.viewer = viewer
        self.expected: list[Any] = []
        """All events that it may see, from the first connection on."""
        self.got: list[Any] = []
        """Ids, and numbers of events that it was told are lost."""
        self.last: str | None = None
        self.subscription: Subscription | None = None

    def come(self) -> None:
        if self.subscription is None:
            self.subscription = self.fan_out.subscribe(self.viewer, self.last)
            assert self.subscription is not None
            self.last = self.subscription.begins or self.last
            if not self.subscription.is_resumed:
                self.got.append(None)

    async def take(self) -> bool:
        if self.subscription is None:
            return False
        found = await self.subscription.next(0.000_001)
        if isinstance(found, Lost):
            self.got.append(found.count)
            self.last = found.id
        elif isinstance(found, Message):
            self.got.append(id_of(found.event))
            self.last = found.id
        return found is not None

    def leave(self) -> None:
        if self.subscription is not None:
            self.fan_out.unsubscribe(self.subscription)
            self.subscription = None


def follows(got: list[Any], expected: list[Any]) -> bool:
    """Whether *got* is *expected* but for the losses that it tells of; ``None``: any number."""
    place, unknown = 0, False
    for each in got:
        if each is None:
            unknown = True
        elif isinstance(each, int):
            place += each
        elif unknown:
            if each not in expected[place:]:
                return False
            place, unknown = expected.index(each, place) + 1, False
        elif place >= len(expected) or expected[place] != each:
            return False
        else:
            place += 1
    return place == len(expected) or unknown


@settings(max_examples=150, deadline=None)
@given(_steps, st.integers(1, 8), st.integers(1, 4))
def test_no_loss_goes_untold_and_nothing_goes_astray(steps, history, most_waiting):
    """Whoever tells, takes, leaves and comes back, in any order, with any bounds."""
    asyncio.run(_check(steps, history, most_waiting))


async def _check(steps: list[Any], history: int, most_waiting: int) -> None:
    fan_out = FanOut(history=history, most_waiting=most_waiting, most_viewers=100)
    watching = [Watching(fan_out, viewer) for viewer in VIEWERS]
    for each in watching:
        each.come()
    last, owner = record(), (None, None)
    remembered: list[Any] = []
    for step, what in steps:
        if step == "tell":
            kind, said = what
            event = event_of(kind, said, last)
            fan_out.put(event)
            if kind == "usage":
                last, owner = event, said
            known = last.run_id in remembered[-history:]
            whose = {"usage": said, "alert": said}.get(kind, (None, None))
            if kind == "saving of the last call" and known:
                whose = owner
            remembered.append(id_of(event))
            for each in watching:
                if _may_see(each.viewer, whose):
                    each.expected.append(id_of(event))
                    assert len(getattr(each.subscription, "_waiting", ())) <= most_waiting
        elif step == "take":
            await watching[what].take()
        else:
            getattr(watching[what], step)()
    for each in watching:
        each.come()
        while await each.take():
            pass
        assert follows(each.got, each.expected), (each.viewer, each.got, each.expected)
        assert {g for g in each.got if g is not None and not isinstance(g, int)} <= {*each.expected}


def _may_see(viewer: Viewer, owner: tuple[str | None, str | None]) -> bool:
    """Say it in other words than the package."""
    if viewer.sees_all:
        return True
    pairs = zip((viewer.user, viewer.organization), owner, strict=True)
    return all(wanted in (None, said) for wanted, said in pairs)


@settings(max_examples=50, deadline=None)
@given(st.lists(_events, max_size=30))
def test_one_users_events_look_the_same_whatever_others_do(events):
    """Ids say nothing of how much others were told in between."""

    async def told(of_others: bool) -> list[str]:
        fan_out = FanOut(history=100, most_waiting=100, most_viewers=2)
        subscription = fan_out.subscribe(Viewer(user="ann"))
        assert subscription is not None
        mine = record(run_id=record().run_id, attribution=Attribution("a", user="ann"))
        for kind, (user, organization) in events if of_others else ():
            if user != "ann" and kind != "saving of the last call":
                fan_out.put(event_of(kind, (user, organization), mine))
        fan_out.put(mine)
        found = await subscription.next(1)
        assert isinstance(found, Message)
        assert await subscription.next(0.000_001) is None
        shown = {**found.fields, "run_id": ""}
        assert found.id.rpartition("-")[2] == mine.run_id.hex
        return sorted(map(str, shown.items()))

    assert asyncio.run(told(False)) == asyncio.run(told(True))
