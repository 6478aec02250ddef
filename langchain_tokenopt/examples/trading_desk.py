"""A desk of eleven agents that reads documents, argues, and decides: the graph to measure first.

Four analysts read the documents side by side. Three debaters each read what all analysts and the
debaters before them wrote. Two managers weigh it up, a trader decides, and a summary closes the
run. Every report is copied in full into the prompts of the agents that read it, as it is done in
real graphs; that is where the money goes, and what this package is for.

    from langchain_openai import ChatOpenAI
    from langchain_tokenopt import track_usage

    desk = build_desk(ChatOpenAI(model="gpt-5.4-mini"), load_documents("my-folder")).compile()
    with track_usage() as usage:
        result = desk.invoke({"question": "Buy, hold or sell?"})
    print(result["reports"]["trader"], usage.by("agent"))
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import END, START, StateGraph

from langchain_tokenopt.examples.reading import load_documents

__all__ = [
    "AGENTS",
    "PROMPT_CHARACTERS",
    "QUESTION",
    "Agent",
    "DeskState",
    "build_desk",
    "decision_of",
    "load_documents",
    "sample_documents",
]

QUESTION = "Should the fund buy, hold or sell shares of Corvane Storage over the next six months?"
"""What the desk is asked about the sample documents."""

PROMPT_CHARACTERS = 400_000
"""Default share of the documents in one analyst's prompt: about 100,000 tokens of English."""


class DeskState(TypedDict):
    """What travels through the graph."""

    question: str
    reports: Annotated[dict[str, str], operator.or_]
    """What every agent has said, by name. Agents that run side by side are merged."""


@dataclass(frozen=True)
class Agent:
    """One member of the desk."""

    task: str
    max_words: int
    reads: tuple[str, ...] = ()
    """Whose reports it is given; without any it is given the documents."""


ANALYSTS = ("market_analyst", "news_analyst", "social_analyst", "fundamentals_analyst")
DEBATERS = ("bull_debater", "bear_debater", "neutral_debater")

AGENTS: dict[str, Agent] = {
    "market_analyst": Agent(
        "As the market analyst, report on price, trend, volume, volatility, valuation against the "
        "sector, and the levels to watch.",
        max_words=300,
    ),
    "news_analyst": Agent(
        "As the news analyst, report which events, orders, accidents, rulings and announcements "
        "matter, when they happened and what follows from them.",
        max_words=250,
    ),
    "social_analyst": Agent(
        "As the social analyst, report what customers, employees and private investors say and "
        "feel, how that has changed, and how far it can be trusted.",
        max_words=200,
    ),
    "fundamentals_analyst": Agent(
        "As the fundamentals analyst, report on revenue, margins, cash flow, debt, backlog, "
        "guidance and accounting risks, with the figures.",
        max_words=350,
    ),
    "bull_debater": Agent(
        "As the bull, argue for growth, demand, new orders, rising margins and upgrades. Answer "
        "the strongest point against you.",
        max_words=200,
        reads=ANALYSTS,
    ),
    "bear_debater": Agent(
        "As the bear, argue the risks: weak demand, warranty claims, debt, competition, falling "
        "margins and downgrades. Answer the bull point by point.",
        max_words=200,
        reads=(*ANALYSTS, "bull_debater"),
    ),
    "neutral_debater": Agent(
        "As the neutral voice, say what both sides overlook and which facts would settle the "
        "matter.",
        max_words=200,
        reads=(*ANALYSTS, "bull_debater", "bear_debater"),
    ),
    "risk_manager": Agent(
        "As the risk manager, name the largest risks, how likely and how costly they are, and the "
        "position size and stop that they allow.",
        max_words=200,
        reads=(*ANALYSTS, *DEBATERS),
    ),
    "research_manager": Agent(
        "As the research manager, weigh the debate, say who won it and why, and recommend a "
        "rating with a price target.",
        max_words=250,
        reads=(*ANALYSTS, *DEBATERS, "risk_manager"),
    ),
    "trader": Agent(
        "As the trader, decide. Give the reasons first and end with a line of its own that reads "
        "'Decision: BUY, HOLD or SELL', your choice followed by the main reason.",
        max_words=150,
        reads=(*ANALYSTS, *DEBATERS, "risk_manager", "research_manager"),
    ),
    "summary": Agent(
        "Write the summary for the client: the decision, the case for and against it, and what "
        "would change it.",
        max_words=200,
        reads=(*ANALYSTS, *DEBATERS, "risk_manager", "research_manager", "trader"),
    ),
}
"""The desk. Names of agents are names of nodes, and what the bill is grouped by."""


def build_desk(
    models: BaseChatModel | Mapping[str, BaseChatModel],
    documents: Sequence[Document],
    *,
    agents: Mapping[str, Agent] = AGENTS,
    prompt_characters: int = PROMPT_CHARACTERS,
) -> StateGraph[DeskState]:
    """Draw the graph; ``.compile()`` makes it run.

    Args:
        models: One model for all agents, or one for each by the agent's name.
        documents: What the analysts read, each of them in full as long as *prompt_characters*
            allows.
        agents: Who takes part.
        prompt_characters: Share of the documents that one analyst's prompt may carry. Beyond it
            every document is cut at the same length, short ones stay whole.

    Raises:
        KeyError: If *models* has no model for one of the agents.

    Example:
        >>> from langchain_tokenopt.testing import ExtractiveChatModel
        >>> desk = build_desk(ExtractiveChatModel(), sample_documents()).compile()
        >>> result = desk.invoke({"question": QUESTION})
        >>> decision_of(result["reports"]["trader"]) in ("BUY", "HOLD", "SELL")
        True
    """
    material = _tagged("document", _shortened(documents, prompt_characters))
    graph = StateGraph(DeskState)
    for name, agent in agents.items():
        model = models[name] if isinstance(models, Mapping) else models
        graph.add_node(name, _node(name, agent, model, material))
        graph.add_edge(list(agent.reads) or START, name)
    graph.add_edge(name, END)
    return graph


def _node(
    name: str, agent: Agent, model: Runnable[LanguageModelInput, Any], material: str
) -> Runnable[DeskState, Any]:
    """Return one agent: state in, its report out."""

    def prompt(state: DeskState) -> list[SystemMessage | HumanMessage]:
        reports = [(other, state["reports"][other]) for other in agent.reads]
        # What several agents share stands first and in the same order, and what only this agent is
        # told stands last: providers charge a tenth for a beginning that they have seen before.
        return [
            SystemMessage("You work on a trading desk. Use only the material that you are given."),
            HumanMessage(
                f"{_tagged('report', reports) if reports else material}\n\n"
                f"Question: {state['question']}\n\n"
                f"{agent.task} Write at most {agent.max_words} words."
            ),
        ]

    def report(text: str) -> dict[str, Any]:
        return {"reports": {name: text}}

    return RunnableLambda(prompt) | model | StrOutputParser() | RunnableLambda(report)


def _tagged(tag: str, texts: Sequence[tuple[str, str]]) -> str:
    """Return named texts, each in tags of its own."""
    return "\n".join(f'<{tag} name="{name}">\n{text}\n</{tag}>' for name, text in texts)


def _shortened(documents: Sequence[Document], max_characters: int) -> list[tuple[str, str]]:
    """Return names and texts that together have at most *max_characters*; the longest are cut."""
    lengths = sorted(len(document.page_content) for document in documents)
    left, cut = max_characters, max_characters
    for index, length in enumerate(lengths):
        cut = left // (len(lengths) - index)
        if length > cut:
            break
        left, cut = left - length, length
    return [
        (str(document.metadata.get("source", number)), document.page_content[:cut])
        for number, document in enumerate(documents, start=1)
    ]


def decision_of(report: str) -> str | None:
    r"""Return what a report decides: BUY, HOLD or SELL; ``None`` if it decides nothing.

    Example:
        >>> decision_of("Some say SELL.\nDecision: HOLD. Margins fall, others BUY.")
        'HOLD'
    """
    choice = r"\b(BUY|HOLD|SELL)\b"
    found = re.search(rf"Decision\W+{choice}", report) or re.search(choice, report)
    return found[1] if found else None


def sample_documents() -> list[Document]:
    """Return eight invented documents about an invented company."""
    return load_documents(Path(__file__).parent / "documents")
