"""What holds for every division and for every course of an account."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from langchain_tokenopt.budget import Claim, TokenBudget, allocate
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.records import BudgetEvent
from langchain_tokenopt.core.usage import Usage
from tests.support.budget_oracle import OracleAgent, SlowBudget
from tests.support.postgres_server import shared_server

pytestmark = pytest.mark.exhaustive

# Division

weights = st.one_of(
    st.integers(1, 20).map(float),
    st.floats(1e-6, 1e6, allow_nan=False, allow_infinity=False),
)


@st.composite
def divisions(draw):
    """A total, and agents with a weight, a floor and a cap each; floors can be met."""
    names = draw(st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=8, unique=True))
    floors = {name: draw(st.integers(0, 200)) for name in names}
    caps = {name: draw(st.none() | st.integers(floors[name], floors[name] + 500)) for name in names}
    total = draw(st.integers(sum(floors.values()), sum(floors.values()) + 3_000))
    return total, {name: draw(weights) for name in names}, floors, caps


@given(divisions())
def test_shares_sum_to_the_total(division):
    """Or to all caps, where those are less."""
    total, weight, floors, caps = division
    most = sum(total if cap is None else cap for cap in caps.values())

    assert min(total, most) == sum(allocate(total, weight, floors=floors, caps=caps).values())


@given(divisions())
def test_floors_and_caps_hold(division):
    """For each share."""
    total, weight, floors, caps = division

    for name, share in allocate(total, weight, floors=floors, caps=caps).items():
        assert floors[name] <= share
        assert caps[name] is None or share <= caps[name]


@given(divisions(), st.randoms())
def test_shares_do_not_depend_on_the_order(division, chance):
    """Neither of agents nor of their limits."""
    total, weight, floors, caps = division
    names = list(weight)
    chance.shuffle(names)
    shuffled = {name: weight[name] for name in names}

    assert allocate(total, weight, floors=floors, caps=caps) == allocate(
        total, shuffled, floors=floors, caps=dict(reversed(caps.items()))
    )


@given(divisions(), st.data())
def test_more_weight_is_never_less(division, data):
    """For the agent whose weight rises; and nobody else gains by it."""
    total, weight, floors, caps = division
    name = data.draw(st.sampled_from(sorted(weight)))
    before = allocate(total, weight, floors=floors, caps=caps)
    heavier = weight | {name: weight[name] * data.draw(st.floats(1, 50))}
    after = allocate(total, heavier, floors=floors, caps=caps)

    assert before[name] <= after[name]
    assert sum(before.values()) == sum(after.values())


@given(divisions())
def test_the_heavier_of_equals_gets_no_less(division):
    """Among agents with the same floor and cap."""
    total, weight, _, _ = division
    shares = allocate(total, weight)

    for one, other in itertools.permutations(weight, 2):
        if weight[one] > weight[other]:
            assert shares[one] >= shares[other]


@given(divisions(), st.integers(1, 50))
def test_only_ratios_of_weights_matter(division, factor):
    """Twice all weights is the same division."""
    total, weight, floors, caps = division
    scaled = {name: float(round(value) + 1) for name, value in weight.items()}
    larger = {name: value * factor for name, value in scaled.items()}

    assert allocate(total, scaled, floors=floors, caps=caps) == allocate(
        total, larger, floors=floors, caps=caps
    )


@given(divisions())
def test_no_fairer_division_exists(division):
    """Who is neither at floor nor at cap is within one token of weight times the common level."""
    total, weight, floors, caps = division
    shares = allocate(total, weight, floors=floors, caps=caps)
    free = [
        name
        for name, share in shares.items()
        if share > floors[name] + 1 and (caps[name] is None or share < caps[name] - 1)
    ]

    for one, other in itertools.combinations(free, 2):
        least = (shares[one] - 1) / weight[one]
        most = (shares[other] + 1) / weight[other]
        assert least <= most * (1 + 1e-9)
        assert (shares[other] - 1) / weight[other] <= (shares[one] + 1) / weight[one] * (1 + 1e-9)


@given(divisions(), st.integers(1, 100))
def test_floors_that_do_not_fit_are_refused(division, missing):
    """With both numbers."""
    _, weight, floors, caps = division
    needed = sum(floors.values())
    assume(needed >= missing)

    with pytest.raises(BudgetInfeasibleError, match=f"{needed:,} tokens but only"):
        allocate(needed - missing, weight, floors=floors, caps=caps)


# Accounts

TOTAL, LEASE = 1_000, 60.0
AGENTS = ("market", "news", "judge", "stranger")
CLAIMS = [
    Claim("market", tokens=300, floor=100, priority=1),
    Claim("news", tokens=200, cap=350, priority=2),
    Claim("judge", tokens=250, floor=200, priority=3),
]
agents = st.sampled_from(AGENTS)
tokens = st.integers(0, 250)


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class AccountMachine(RuleBasedStateMachine):
    """An account in memory, one in a file, and an oracle go through the same course."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.clock = _Clock()
        self.events: list[BudgetEvent] = []
        store, run = self.new_store()
        self.budgets = [
            TokenBudget(
                TOTAL, lease_seconds=LEASE, clock=self.clock, path=path, run=run, sinks=[self]
            )
            for path in (None, store, store)
        ]
        """The last two are one account, opened twice."""
        self.oracle = SlowBudget(TOTAL, LEASE)
        self.numbers = itertools.count()
        self.granted: dict[int, list] = {}

    def new_store(self) -> tuple[Path | str, str]:
        """Where an account is kept that nobody has used, and of which run it is."""
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name) / "budgets.db", ""

    def record(self, event: BudgetEvent) -> None:
        self.events.append(event)

    def teardown(self) -> None:
        for budget in self.budgets:
            budget.close()
        self.folder.cleanup()

    @initialize(planned=st.booleans())
    def divide(self, planned):
        if planned:
            for budget in self.budgets:
                budget.allocate(CLAIMS)
            for claim in CLAIMS:
                self.oracle.agents[claim.agent] = OracleAgent(
                    claim.tokens, claim.priority, claim.floor, claim.cap
                )

    def both(self, act):
        """Let memory and, by turns, one of the two that share a file do the same."""
        self.turn = not getattr(self, "turn", False)
        first, second = act(0), act(1 + self.turn)
        assert first == second
        return first

    @rule(target=holds, agent=agents, sent=tokens, most=tokens, least=st.none() | tokens)
    def reserve(self, agent, sent, most, least):
        least = None if least is None else min(least, most)
        number = next(self.numbers)
        answers = [None, None]

        def act(which):
            answers[which > 0] = self.budgets[which].reserve(
                agent, sent, most, min_output_tokens=least
            )
            answer = answers[which > 0]
            return answer.tokens if answer else (answer.available_tokens, answer.needed_tokens)

        room = self.oracle.room(agent)
        needed = sent + (most if least is None else least)
        held = self.oracle.reserve(number, agent, sent + most, needed)
        assert ((room, needed) if held is None else held) == self.both(act)
        if held is not None:
            self.granted[number] = [answers[0], answers[1], answers[1]]
            return number
        return None

    @rule(number=holds, part=st.floats(0, 1.2), how=st.sampled_from(["told", "told", "untold"]))
    def settle(self, number, part, how):
        if number is None:
            return
        charge = None if how == "untold" else int(self.oracle.holds[number].tokens * part)
        usage = None if charge is None else Usage(charge, 0)
        expected = self.oracle.settle(number, charge)

        assert expected == self.both(
            lambda which: (
                self.budgets[which].settle(self.granted[number][which], usage).charged_tokens
            )
        )

    @rule(number=holds)
    def cached(self, number):
        if number is None:
            return
        self.oracle.settle(number, 0)
        self.both(
            lambda which: self.budgets[which].settle(
                self.granted[number][which], Usage(10, 10), outcome="cached"
            )
        )

    @rule(number=holds)
    def release(self, number):
        if number is None:
            return
        expected = self.oracle.release(number)

        assert expected == self.both(
            lambda which: self.budgets[which].release(self.granted[number][which])
        )

    @rule(agent=agents, used=st.integers(0, 120))
    def charge(self, agent, used):
        self.oracle.bill(agent, used, used)
        self.both(lambda which: self.budgets[which].charge(agent, Usage(used, 0)))

    @rule(agent=agents)
    def finish(self, agent):
        expected = self.oracle.finish(agent)

        assert expected == self.both(lambda which: self.budgets[which].finish(agent))

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds):
        self.clock.now += seconds
        self.oracle.wait(seconds)
        self.both(lambda which: self.budgets[which].report().spent_tokens)

    @invariant()
    def accounts_and_oracle_agree(self):
        for budget in self.budgets:
            report = budget.report()
            assert [] == budget.check()
            assert self.oracle.spent() == report.spent_tokens
            assert self.oracle.held() == report.held_tokens
            assert self.oracle.surplus == report.surplus_tokens
            assert TOTAL >= report.spent_tokens + report.held_tokens - report.surplus_tokens
            for name in AGENTS:
                assert self.oracle.room(name) == budget.available(name)

    @invariant()
    def events_never_tell_of_an_overdraft_without_surplus(self):
        for event in self.events:
            if not self.oracle.surplus:
                assert event.spent_tokens + event.held_tokens <= TOTAL
        self.events.clear()


TestAccounts = AccountMachine.TestCase
TestAccounts.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class ServerMachine(AccountMachine):
    """The same on a server."""

    runs = itertools.count()

    def new_store(self) -> tuple[Path | str, str]:
        return _database(), str(next(self.runs))

    def teardown(self) -> None:
        for budget in self.budgets:
            budget.close()


@functools.cache
def _database() -> str:
    return shared_server().new_database()


TestAccountsOnAServer = ServerMachine.TestCase
TestAccountsOnAServer.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
