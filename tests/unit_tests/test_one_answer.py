"""One answer to each question about a request: worked out once, and in one place."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tokenopt import BudgetPlan, WordLimit, optimize, track_usage
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.request.answer_form import answer_form
from langchain_tokenopt.testing import ExtractiveChatModel

PACKAGE = Path(__file__).parents[2] / "langchain_tokenopt"

# --- once

QUESTIONS = (count_messages, model_name_of, answer_form, attribution_of)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each question was asked, by whichever module."""
    counts: Counter[str] = Counter()

    def counting(question: Any) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            if not (args and isinstance(args[0], str)):  # a name is its own answer
                counts[question.__name__] += 1
            return question(*args, **kwargs)

        return ask

    for name, module in list(sys.modules.items()):
        if name.startswith("langchain_tokenopt.") and not name.startswith(
            "langchain_tokenopt.testing"
        ):
            for question in QUESTIONS:
                if getattr(module, question.__name__, None) is question:
                    monkeypatch.setattr(module, question.__name__, counting(question))
    return counts


PROMPT = [SystemMessage("Answer in one sentence."), HumanMessage("The sky is blue. " * 100)]


def test_a_budgeted_call_asks_each_question_once(asked):
    """Reserving, bounding, sending, settling: one count of the prompt serves them all."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(ExtractiveChatModel(), plan)
    with plan.run():
        model.invoke(PROMPT)
    assert asked == {question.__name__: 1 for question in QUESTIONS}


def test_stages_ask_no_question_twice(asked):
    """A limit that adds a line to the prompt has the longer prompt counted, and nothing else."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(ExtractiveChatModel(), WordLimit(50), plan)
    with plan.run():
        model.invoke(PROMPT)
    assert asked.pop("count_messages") <= 2
    assert asked == {question.__name__: 1 for question in QUESTIONS[1:]}


def test_tracking_counts_nothing_that_was_reported(asked):
    """The provider's own numbers are taken; the record asks on whose account it goes."""
    with track_usage() as usage:
        optimize(ExtractiveChatModel(), WordLimit(50)).invoke("What is blue? The sky is blue.")
    assert usage.totals().calls == 1
    assert asked["attribution_of"] <= 2


# --- in one place

OWNED = {
    "request/finish_reasons.py": {
        *("length", "max_tokens", "content_filter", "end_turn", "stop_sequence", "tool_use"),
        *("eos_token", "done_reason", "stopReason", "incomplete_details", "block_reason"),
    },
    "request/output_caps.py": {
        *("max_completion_tokens", "max_output_tokens", "num_predict", "max_new_tokens"),
    },
    "request/answer_form.py": {
        *("response_format", "response_schema", "response_json_schema", "guided_json"),
        *("output_config", "response_mime_type", "function_call"),
    },
    "request/thinking.py": {"reasoning_effort", "thinking_budget", "thinking_level"},
    "core/attribution.py": {"user_id", "organization_id", "org_id", "tenant_id", "lc_agent_name"},
}
"""Words of hosts and providers, and the only module that may read them."""

ELSEWHERE = {
    "testing": "the stand-in speaks as a provider does",
    "counting/request_tokens.py": "blocks and calls of messages, which are not settings",
    "core/messages.py": "blocks and calls of messages, which are not settings",
    "graph/host_compat.py": "the name that create_agent gave to a compiled graph",
    "chat_model/stage_chain.py": "what an answer says that a stage has cut",
}


@cache
def _lists_of_words() -> list[tuple[str, int, set[str]]]:
    """Return every tuple, set, list or dict of string literals in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        if any(where.startswith(prefix) for prefix in ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.Set | ast.List):
                parts: list[Any] = node.elts
            elif isinstance(node, ast.Dict):
                parts = node.keys
            else:
                continue
            words = {p.value for p in parts if isinstance(p, ast.Constant)}
            found.append((where, node.lineno, {word for word in words if isinstance(word, str)}))
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("owner", OWNED)
def test_lists_of_a_hosts_words_have_one_owner(owner):
    """A second list would sooner or later say something else."""
    strangers = [
        f"{where}:{line} lists {sorted(words & OWNED[owner])}"
        for where, line, words in _lists_of_words()
        if where != owner and len(words & OWNED[owner]) >= 2
    ]
    assert not strangers, f"{owner} owns these words: {strangers}"


def test_the_owners_do_list_them():
    """Else the test above could not fail."""
    found: dict[str, set[str]] = {}
    for where, _, words in _lists_of_words():
        found[where] = found.get(where, set()) | words
    for owner, words in OWNED.items():
        assert len(found[owner] & words) >= 2, owner
