"""What a scarce budget leaves of a prompt: everything that the caller asks and rules."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Final

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt import BudgetPlan, optimize
from tests.support.model_server import ModelServer

_WORDS: Final = {
    "en": "the mill stood near a quiet river while two carts of flour waited for some rain",
    "fr": "le moulin se trouvait près de la rivière où deux charrettes attendaient la pluie",
    "pt": "o moinho ficava perto do rio enquanto duas carroças esperavam pela chuva fina",
    "zh": "磨坊 在 安静 的 河边 两辆 马车 等着 下雨 人们 谈论 收成 和 天气",
}


def _prose(language: str, sentences: int, seed: int) -> str:
    rng = random.Random(seed)
    words = _WORDS[language].split()
    end, joint = ("。", "") if language == "zh" else (". ", " ")
    made = (joint.join(rng.sample(words, 9)) for _ in range(sentences))
    return "".join(text[0].upper() + text[1:] + end for text in made).strip()


_ASKED: Final = {
    "en": ("Which mill is to be sold first, and why?", "You are the miller's clerk.", "No lists."),
    "fr": (
        "Quel moulin faut-il vendre en premier ?",
        "Vous êtes le notaire de la famille.",
        "Citez chaque chiffre.",
    ),
    "pt": (
        "Qual moinho deve ser vendido primeiro?",
        "Você é o contador da família.",
        "Cite cada número.",
    ),
    "zh": ("应该先卖哪个磨坊？", "你是磨坊的会计。", "请列出每个数字。"),
}


def _tags(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    body = "\n".join(f"<page>\n{page}\n</page>" for page in pages)
    return [HumanMessage(f"{asked[1]}\n\n{body}\n\n{asked[0]}\n{asked[2]}")]


def _headings(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    body = "\n\n".join(f"# Page {n}\n\n{page}" for n, page in enumerate(pages))
    return [HumanMessage(f"{asked[0]}\n\n{body}\n\n# Task\n\n{asked[1]} {asked[2]}")]


def _question_last(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    return [HumanMessage("\n\n".join([f"{asked[1]} {asked[2]}", *pages, asked[0]]))]


def _question_first(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    return [HumanMessage("\n\n".join([" ".join(asked), *pages]))]


def _in_messages(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    return [*(HumanMessage(f"Page {n}:\n{p}") for n, p in enumerate(pages)), HumanMessage(asked[0])]


def _as_json(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    data = json.dumps([{"page": n, "text": p} for n, p in enumerate(pages)], ensure_ascii=False)
    return [HumanMessage(f"{asked[1]} {asked[2]}\n\n{data}\n\n{asked[0]}")]


def _fenced(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    body = "\n\n".join(f"```text\n{page}\n```" for page in pages)
    return [HumanMessage(f"{asked[1]}\n\n{body}\n\n{asked[0]} {asked[2]}")]


def _found_by_tools(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    made: list[BaseMessage] = [HumanMessage(f"{asked[0]}\n\n{asked[1]} {asked[2]}")]
    for n, page in enumerate(pages):
        call = {"name": "search", "args": {"page": n}, "id": str(n), "type": "tool_call"}
        made += [AIMessage("", tool_calls=[call]), ToolMessage(page, tool_call_id=str(n))]
    return made


def _later_turn(asked: tuple[str, ...], pages: list[str]) -> list[BaseMessage]:
    turns = [m for page in pages for m in (HumanMessage("And then?"), AIMessage(page))]
    return [HumanMessage(asked[1]), AIMessage("Ready."), *turns, HumanMessage(asked[0])]


_LAYOUTS: Final = [
    *(_tags, _headings, _question_last, _question_first, _in_messages, _as_json, _fenced),
    *(_found_by_tools, _later_turn),
]
SYSTEM: Final = "Answer for the heirs of the mill. Never guess; say what is not known."


@pytest.mark.parametrize("language", _ASKED)
@pytest.mark.parametrize("layout", _LAYOUTS, ids=lambda layout: layout.__name__.strip("_"))
def test_what_frames_a_prompt_is_never_cut(
    model_server: ModelServer, layout: Any, language: str
) -> None:
    """At any total the caller's words arrive whole, or the model is not asked at all."""
    pages = [_prose(language, 14, seed) for seed in range(3)]
    asked = _ASKED[language]
    messages = [SystemMessage(SYSTEM), *layout(asked, pages)]
    sent = "\n".join(m.text for m in messages)
    framing = [SYSTEM, *(line for line in asked if line in sent)]
    arrived = 0
    for total in (40, 150, 250, 350, 500, 800):
        plan, before = BudgetPlan(total_tokens=total, name=str(total)), len(model_server.requests)
        with plan.run():
            model = optimize(model_server.chat_openai(), plan)
            is_async = total % 100 > 0
            answer = asyncio.run(model.ainvoke(messages)) if is_async else model.invoke(messages)
        assert answer.text.strip()
        for request in model_server.requests[before:]:
            arrived += 1
            received = "\n".join(request.texts)
            assert [] == [line for line in framing if line not in received]
    assert arrived >= 3
    assert all(usage.total_tokens for usage in model_server.billed)
