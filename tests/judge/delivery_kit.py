"""What both halves of the delivery judge are made with: facts, documents, agents, nodes."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from typing import Any

from tests.judge.delivery_apps import (
    Agent,
    App,
    Fact,
    Language,
    Layout,
    Mode,
    State,
    Surplus,
    tokens_of,
)

Materials = list[tuple[str, str]]
MODES: tuple[Mode, ...] = ("invoke", "invoke", "ainvoke", "stream", "astream")


class Kit:
    """Draws the parts of one application."""

    def __init__(self, seed: int, languages: Sequence[Language], layouts: Sequence[Layout]) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.language = self.rng.choice(languages)
        self.layout = self.rng.choice(layouts)
        self.mode = self.rng.choice(MODES)
        self.facts: list[Fact] = []
        self.agents: dict[str, Agent] = {}
        self._names = list(self.language.agents)
        self.rng.shuffle(self._names)
        self._values = self.rng.sample(range(1_200, 9_900), 80)
        self._codes = self.rng.sample(range(100, 1_000), 80)

    def name(self) -> str:
        """Return a name that no agent has."""
        return self._names.pop()

    def fact(self) -> Fact:
        """Return a new fact."""
        language, rng = self.language, self.rng
        code = f"{rng.choice(string.ascii_uppercase)}{self._codes.pop()}"
        subject = f"{rng.choice(language.subjects)} {code}"
        value = str(self._values.pop())
        sentence = rng.choice(language.facts).format(s=subject, v=value)
        self.facts.append(Fact(code, value, sentence))
        return self.facts[-1]

    def document(self, tokens: int, facts: int) -> str:
        """Return paragraphs of about *tokens* tokens with so many facts in them."""
        sentences: list[str] = []
        used = 0
        while used < tokens:
            sentences.append(self.language.sentence(self.rng))
            used += tokens_of(sentences[-1])
        for _ in range(facts):
            sentences.insert(self.rng.randrange(len(sentences) + 1), self.fact().sentence)
        space = " " if self.language.joint else ""
        groups = [sentences[n : n + 4] for n in range(0, len(sentences), 4)]
        return "\n\n".join(space.join(group) for group in groups)

    def documents(self, most: int = 3) -> Materials:
        """Return some documents, at least one, by name."""
        count = self.rng.randint(1, most)
        return [
            (
                f"doc-{n}-{self.rng.randrange(1000)}",
                self.document(self.rng.randint(80, 600), self.rng.randint(0, 3)),
            )
            for n in range(count)
        ]

    def agent(self, *, name: str | None = None, words: int | None = None, **options: Any) -> Agent:
        """Return a new agent with a role of its own."""
        language, rng = self.language, self.rng
        name = name or self.name()
        words = words or round(min(350, max(25, rng.lognormvariate(4.4, 0.6))))
        limit = rng.choice((None, None, 60, 100, 150, 200)) if not options.get("schema") else None
        rules = [language.limit.format(words=limit)] if limit else []
        rules += rng.sample(language.rules, rng.randint(0, 1))
        joint = " " if language.joint else ""
        self.agents[name] = Agent(
            name=name,
            system=language.system,
            role=language.role.format(name=name.replace("_", " "), number=rng.randrange(10, 99)),
            question=language.question,
            rules=joint.join(rules),
            words=words,
            layout=options.pop("layout", self.layout),
            obeys=options.pop("obeys", rng.random() < 0.6),
            limit=limit,
            **options,
        )
        return self.agents[name]

    def app(
        self,
        kind: str,
        build: Callable[[Any], Any],
        last: str,
        *,
        parallel: int = 1,
        inputs: dict[str, Any] | None = None,
        final: Callable[[Any], str] | None = None,
    ) -> App:
        """Return the application; its output is the report of *last*."""
        rng = self.rng
        drawn = rng.random()
        surplus = Surplus()
        if drawn > 0.95:
            surplus = Surplus(factor=1.3)
        elif drawn > 0.85:
            surplus = Surplus(per_message=rng.randint(1, 4), per_tool=rng.randint(4, 14))
        return App(
            seed=self.seed,
            kind=kind,
            language=self.language,
            agents=self.agents,
            facts=tuple(self.facts),
            build=build,
            inputs={"question": self.language.question, **(inputs or {})},
            final=final or (lambda state: str(state.get("reports", {}).get(last, ""))),
            mode=self.mode,
            surplus=surplus,
            usage_in_streams=rng.random() < 0.85,
            ignores_caps=rng.random() < 0.04,
            parallel=parallel,
        )


def reports_of(names: Sequence[str]) -> Callable[[State], Materials]:
    """Return what reads the reports of these agents."""
    return lambda state: [(n, state["reports"][n]) for n in names if n in state.get("reports", {})]


def given(materials: Materials) -> Callable[[State], Materials]:
    """Return what always reads the same."""
    return lambda state: materials
