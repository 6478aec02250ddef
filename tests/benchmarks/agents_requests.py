"""Data requests: what the strategies cost, beside an agent that asks one by one and one big prompt.

Run:     make bench-agents (python -m tests.benchmarks.agents_requests [--quick])
Output:  results/agents_requests.json; with --quick nothing is written.

The model is scripted: it reads what is said, and in one of thirty fields claims what is not (a
value of another request, or half of a number), each way alike. Tokens are counted with OpenAI's
o200k vocabulary. The agent is ``create_agent`` with a tool that asks, and a form to fill in the
end.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, create_model

from langchain_tokenopt import DataRequester, count_messages, counter_for, track_usage
from langchain_tokenopt.data_requests.same_value import same
from tests.benchmarks.request_cases import FIELDS, Case, cases
from tests.benchmarks.results import write_result

COMMAND = "python -m tests.benchmarks.agents_requests"
STRATEGIES = ("auto", "simple", "chunked", "progressive", "critical")
BUILD, JUDGE = 20261130, 4
"""Seeds: faults were looked for on the first, the figures are of the second."""
FAULTS = 30
"""One field in so many is claimed wrongly."""


class Reader(BaseChatModel):
    """Reads the phrases of a case; asks for what it has not seen, where it may."""

    case: Any = None
    others: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted-reader"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(each) for each in tools], **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        tools = kwargs.get("tools") or []
        reply = self._reply(
            messages, {each["function"]["name"]: each["function"] for each in tools}
        )
        sent = count_messages(messages, tools or None, "gpt-4o").tokens
        calls = "".join(each["name"] + json.dumps(each["args"]) for each in reply.tool_calls)
        wrote = counter_for("gpt-4o").count(reply.text + calls).tokens
        reply.usage_metadata = {
            "input_tokens": sent,
            "output_tokens": wrote,
            "total_tokens": sent + wrote,
        }
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _reply(self, messages: list[BaseMessage], forms: dict[str, Any]) -> AIMessage:
        said = "\n".join(m.text for m in messages if isinstance(m, HumanMessage | ToolMessage))
        if "items" in forms:
            fields = forms["items"]["parameters"]["properties"]
            return _calls("items", {name: one["description"] for name, one in fields.items()})
        if "ask_user" in forms:
            asked = [m.tool_calls[0]["args"]["question"] for m in messages if _asks(m)]
            for need in self.case.needs:
                question = f"Could you please tell me this: {need.question}?"
                if self.case.phrases[need.name] not in said and question not in asked:
                    return _calls("ask_user", {"question": question})
        if not forms:
            missing = [n for n in self.case.needs if self.case.phrases[n.name] not in said]
            listed = "\n".join(f"{at}. {n.question}" for at, n in enumerate(missing, 1))
            return AIMessage(f"Thank you. I still need to know the following:\n{listed}")
        name = next(each for each in forms if each != "ask_user")
        return _calls(name, self._read(said, forms[name]["parameters"]["properties"]))

    def _read(self, said: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Copy what is said, and claim what is not now and then."""
        found: dict[str, Any] = {}
        for name in fields:
            if name == "enough":
                found[name] = self.case.is_content
                continue
            chance = random.Random(f"{self.case.name} {name} {said}").randrange(FAULTS)
            phrase = self.case.phrases[name]
            if chance == 0:
                found[name] = self._wrong(name)
            elif phrase in said:
                found[name] = self._form(name, phrase, fields[name])
        return found

    def _wrong(self, name: str) -> Any:
        """Claim half of a number, or what another has said."""
        phrase = self.case.phrases[name]
        grouped = re.match(r"\d{1,3}[.,  ](\d{3})", phrase)
        if grouped:
            return grouped[1] if grouped[1] != "000" else phrase[:1]
        value = self.others.truth[name]
        return value if isinstance(value, bool | int | float) else str(value)

    def _form(self, name: str, phrase: str, field: dict[str, Any]) -> Any:
        """Return a value as the form wants it: the words, or the value itself."""
        text = json.dumps(field)
        value = self.case.truth[name]
        plain = '"number"' not in text and '"integer"' not in text and '"boolean"' not in text
        return (str(value) if "date" in text else phrase) if plain else value


def _calls(name: str, args: dict[str, Any]) -> AIMessage:
    call = {"name": name, "args": args, "id": f"call_{abs(hash(json.dumps(args))) % 10**9}"}
    return AIMessage("", tool_calls=[{**call, "type": "tool_call"}])


def _asks(message: BaseMessage) -> bool:
    calls = getattr(message, "tool_calls", None)
    return bool(calls) and calls[0]["name"] == "ask_user"


# --- the ways


class User:
    """Answers, and counts."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.questions = 0
        self.asked: list[str] = []
        self._rng = random.Random(case.name)

    def ask(self, names: Sequence[str]) -> str:
        """Tell what is asked for, and one time in five something else, too."""
        self.questions += 1
        self.asked += names
        others = [name for name in self.case.truth if name not in self.asked]
        extra = self._rng.choice(others) if others and self._rng.random() < 0.2 else None
        return self.case.answer(list(names), extra)


def _form_of(case: Case) -> type[BaseModel]:
    fields: Any = {
        need.name: (Optional[need.type], Field(None, description=need.question))  # noqa: UP045
        for need in case.needs
    }
    return create_model("Collected", **fields)


SYSTEM = "You collect the data that a request needs. "


def agent(case: Case, model: Reader, user: User) -> dict[str, Any]:
    """An agent with a tool that asks: one question for each data point, all resent each time."""

    @tool
    def ask_user(question: str) -> str:
        """Ask the user for one piece of information."""
        named = [need.name for need in case.needs if need.question in question]
        return user.ask(named)

    how = "Ask the user for one missing item at a time, and fill in the form when you are done."
    asking = create_agent(
        model,
        [ask_user],
        system_prompt=SYSTEM + how,
        response_format=ToolStrategy(_form_of(case), handle_errors=False),
    )
    given = {"messages": [("user", case.request)]}
    state = asking.invoke(given, {"recursion_limit": 100})
    return state["structured_response"].model_dump(exclude_none=True)


def big_prompt(case: Case, model: Reader, user: User) -> dict[str, Any]:
    """One prompt that has it all: a list of questions, then a form from the conversation."""
    needs = "\n".join(f"- {need.question}" for need in case.needs)
    how = f"Ask the user for everything that is missing. What is needed:\n{needs}"
    messages: list[BaseMessage] = [SystemMessage(SYSTEM + how), HumanMessage(case.request)]
    listed = model.invoke(messages)
    named = [need.name for need in case.needs if need.question in listed.text]
    messages += [listed, HumanMessage(user.ask(named))]
    form: Any = model.with_structured_output(_form_of(case)).invoke(messages)
    return form.model_dump(exclude_none=True)


def requesters(strategy: Any) -> Callable[[Case, Reader, User], dict[str, Any]]:
    """``DataRequester``: one for each field, as an application has it."""
    words: dict[str, dict[Any, str]] = {field: {} for field in FIELDS}

    def collect(case: Case, model: Reader, user: User) -> dict[str, Any]:
        requester = DataRequester(model, strategy=strategy, needs=case.needs)
        requester._words = words[case.field]  # the model is another for each request here
        ask = lambda question: user.ask(question.names)  # noqa: E731
        return requester.invoke({"request": case.request, "ask": ask}).values

    return collect


WAYS: dict[str, Callable[[], Any]] = {
    "an agent that asks one by one": lambda: agent,
    "one big prompt": lambda: big_prompt,
    **{
        f'`strategy="{name}"`': lambda name=name: requesters(name)  # type: ignore[misc]
        for name in STRATEGIES
    },
}


def measured(way: Any, all_cases: Sequence[Case]) -> dict[str, float]:
    """Run one way over all requests."""
    sums: dict[str, int] = dict.fromkeys(
        ("tokens", "calls", "questions", "again", "right", "essential", "wrong"), 0
    )
    of_all = of_essential = 0
    for n, case in enumerate(all_cases):
        other = all_cases[(n + 25) % len(all_cases)]
        user, model = User(case), Reader(case=case, others=other)
        with track_usage() as usage:
            values = way(case, model, user)
        totals = usage.totals()
        sums["tokens"] += totals.total_tokens
        sums["calls"] += totals.calls
        sums["questions"] += user.questions
        sums["again"] += len([name for name in user.asked if name in case.stated])
        for need in case.needs:
            is_right = need.name in values and same(values[need.name], case.truth[need.name])
            told = need.name not in case.secret
            of_all += told
            sums["right"] += is_right
            if need.importance == "essential":
                of_essential += told
                sums["essential"] += is_right
            sums["wrong"] += need.name in values and not is_right
    count = len(all_cases)
    return {
        **{name: round(sums[name] / count, 2) for name in ("tokens", "calls", "questions")},
        "asked_though_stated": sums["again"],
        "right_share": round(sums["right"] / of_all, 4),
        "essential_share": round(sums["essential"] / of_essential, 4),
        "wrong_values": sums["wrong"],
    }


def main() -> int:
    """Measure every way, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    all_cases = cases(50, BUILD) if given.quick else cases(200, JUDGE)
    figures: dict[str, Any] = {"n": len(all_cases), "data_points": 9 * len(all_cases), "ways": {}}
    for name, make in WAYS.items():
        figures["ways"][name] = measured(make(), all_cases)
        print(f"{name:32} {figures['ways'][name]}", flush=True)
    if not given.quick:
        write_result("agents_requests", COMMAND, figures, "langchain", "pydantic")
    return 0


if __name__ == "__main__":
    sys.exit(main())
