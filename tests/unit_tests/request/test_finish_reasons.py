"""Only whole answers may be kept: an allow list of what providers say of the end."""

from __future__ import annotations

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from langchain_tokenopt import optimize
from langchain_tokenopt.request.finish_reasons import is_whole

WHOLE = [
    {"finish_reason": "stop"},
    {"finish_reason": "STOP"},
    {"finish_reason": "tool_calls"},
    {"finish_reason": "stopstop"},
    {"finish_reason": ""},
    {"finish_reason": None},
    {"stop_reason": "end_turn", "stop_sequence": None},
    {"stopReason": "tool_use"},
    {"done_reason": "stop", "done": True},
    {"status": "completed", "incomplete_details": None},
    {"finish_reason": "COMPLETE"},
    {"model_name": "some-model"},
    {},
]
NOT_WHOLE = [
    {"finish_reason": "length"},
    {"finish_reason": "MAX_TOKENS"},
    {"finish_reason": "content_filter"},
    {"finish_reason": "RECITATION"},
    {"finish_reason": "PROHIBITED_CONTENT"},
    {"finish_reason": "a reason of next year"},
    {"finish_reason": "stoplength"},
    {"stop_reason": "model_context_window_exceeded"},
    {"stop_reason": "pause_turn"},
    {"stop_reason": "refusal"},
    {"stopReason": "guardrail_intervened"},
    {"stopReason": "max_tokens"},
    {"done_reason": "length"},
    {"status": "incomplete"},
    {"status": "completed", "incomplete_details": {"reason": "max_output_tokens"}},
    {"prompt_feedback": {"block_reason": "SAFETY"}},
]


def _name(said: dict) -> str:
    return "-".join(f"{key} {value}" for key, value in said.items()) or "nothing"


@pytest.mark.parametrize("said", WHOLE, ids=_name)
@pytest.mark.parametrize("place", ["response_metadata", "generation_info"])
def test_known_good_ends_are_whole(said, place):
    """So is an answer of whose end nothing is said."""
    assert is_whole([_generation(said, place)])


@pytest.mark.parametrize("said", NOT_WHOLE, ids=_name)
@pytest.mark.parametrize("place", ["response_metadata", "generation_info"])
def test_all_other_ends_are_not(said, place):
    """What nobody knows is not taken for a good end."""
    assert not is_whole([_generation(said, place)])


def test_a_refusal_is_no_whole_answer():
    """OpenAI puts it beside the content."""
    message = AIMessage("", additional_kwargs={"refusal": "I cannot help with that."})
    assert not is_whole([ChatGeneration(message=message)])


@pytest.mark.parametrize("said", NOT_WHOLE, ids=_name)
def test_a_cache_keeps_no_half_answer(said):
    """The host's own cache, behind the seam."""
    answers = [AIMessage("half", response_metadata=said), AIMessage("whole")]
    model = optimize(GenericFakeChatModel(messages=iter(answers)), InMemoryCache())

    assert [model.invoke("?").content for _ in range(3)] == ["half", "whole", "whole"]


def _generation(said: dict, place: str) -> ChatGeneration:
    if place == "generation_info":
        return ChatGeneration(message=AIMessage("Yes."), generation_info=said)
    return ChatGeneration(message=AIMessage("Yes.", response_metadata=said))
