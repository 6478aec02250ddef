"""A budget as slow and plain as it can be: every question is answered from the whole story.

It shares no code with the account.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OracleHold:
    """One reservation: ``state`` is held, lapsed, released or settled."""

    agent: str
    tokens: int
    expires: float
    state: str = "held"


@dataclass
class OracleAgent:
    """What an agent was promised."""

    share: int = 0
    weight: float | None = None
    floor: int = 0
    cap: int | None = None
    finished: bool = False


@dataclass
class SlowBudget:
    """The oracle."""

    total: int
    lease: float
    agents: dict[str, OracleAgent] = field(default_factory=dict)
    holds: dict[int, OracleHold] = field(default_factory=dict)
    bills: list[tuple[str, int]] = field(default_factory=list)
    """Every charge, and every correction of one."""
    surplus: int = 0
    now: float = 0.0

    def agent(self, name: str) -> OracleAgent:
        """Return an agent, blank when it is not known."""
        return self.agents.setdefault(name, OracleAgent())

    def spent(self, name: str | None = None) -> int:
        """Add up every bill."""
        return sum(tokens for agent, tokens in self.bills if name in (None, agent))

    def held(self, name: str | None = None) -> int:
        """Add up every hold."""
        return sum(
            hold.tokens
            for hold in self.holds.values()
            if hold.state == "held" and name in (None, hold.agent)
        )

    def used(self, name: str) -> int:
        """Spent and held."""
        return self.spent(name) + self.held(name)

    def claim(self, name: str) -> int:
        """What nobody else may take."""
        agent = self.agent(name)
        return max(self.used(name), 0 if agent.finished else agent.share)

    def room(self, name: str) -> int:
        """What an agent may reserve."""
        others = sum(self.claim(other) for other in self.agents if other != name)
        room = self.total - others - self.used(name)
        cap = self.agent(name).cap
        return max(0, room if cap is None else min(room, cap - self.used(name)))

    def reserve(self, number: int, name: str, needed: int, least: int) -> int | None:
        """Hold what fits; return how much, or None."""
        self.agent(name)
        room = self.room(name)
        if room < least:
            return None
        self.holds[number] = OracleHold(name, min(room, needed), self.now + self.lease)
        return self.holds[number].tokens

    def settle(self, number: int, charge: int | None) -> int:
        """Bill a call; None: as much as was reserved. Return what it is charged."""
        hold = self.holds[number]
        if hold.state == "settled":
            return 0
        charge = hold.tokens if charge is None else charge
        before = hold.tokens if hold.state == "lapsed" else 0
        covered = 0 if hold.state == "released" else hold.tokens
        hold.state = "settled"
        self.bill(hold.agent, charge - before, max(charge - covered, 0))
        return charge

    def bill(self, name: str, tokens: int, surplus: int) -> None:
        """Write a bill; who is beyond the total after it takes shares away."""
        self.agent(name)
        self.bills.append((name, tokens))
        self.surplus += surplus
        debt = sum(self.claim(agent) for agent in self.agents) - self.total
        poorest = sorted(
            (agent for agent in self.agents if not self.agents[agent].finished),
            key=lambda agent: (self.agents[agent].weight or 0.0, agent),
        )
        for keeps_floor in (True, False):
            for agent in poorest:
                part = self.agents[agent]
                kept = max(self.used(agent), part.floor if keeps_floor else 0)
                cut = max(0, min(debt, part.share - kept))
                part.share -= cut
                debt -= cut

    def release(self, number: int) -> bool:
        """Forget a hold, or refund it."""
        hold = self.holds[number]
        if hold.state == "lapsed" and hold.tokens:
            self.bills.append((hold.agent, -hold.tokens))
        elif hold.state != "held":
            return False
        hold.state = "released"
        hold.expires = self.now + 4 * self.lease
        return True

    def finish(self, name: str) -> int:
        """Hand the rest on."""
        done = self.agent(name)
        if done.finished:
            return 0
        done.finished = True
        return max(done.share - self.used(name), 0)

    def wait(self, seconds: float) -> None:
        """Let time pass, leases end, and what has ended be forgotten."""
        self.now += min(seconds, self.lease)
        for hold in self.holds.values():
            if hold.expires > self.now:
                continue
            if hold.state == "held":
                hold.state = "lapsed"
                hold.expires = self.now + 4 * self.lease
                self.bills.append((hold.agent, hold.tokens))
            else:
                hold.state = "settled"
