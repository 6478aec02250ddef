"""The stand-in itself: LangChain's chat-model interface, and how an answer is put together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PositiveFloat, PositiveInt, SecretStr

from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.request.output_caps import CAP_NAMES
from langchain_tokenopt.testing.arguments import arguments_for, chosen_tool
from langchain_tokenopt.testing.prompt import Prompt, first_words, words_in

__all__ = ["NOTE", "ExtractiveChatModel"]

NOTE = "extractive stand-in, not a language model"
"""What every answer says about its author, in ``response_metadata["note"]``."""

CLOSING_WORDS = 40
"""Longest line with a decision and its reason."""

DEFAULT_WORDS = 120
"""Length of an answer whose prompt names no limit, at ``verbosity=1``."""


class ExtractiveChatModel(BaseChatModel):
    r"""Answer with the sentences of the prompt that fit the request best.

    An extractive stand-in, not a language model: it ranks the sentences of its prompt by the words
    that they share with the request and repeats the best ones in their original order. The same
    prompt always gets the same answer. Material is what stands in tags
    (``<document>...</document>``), in long paragraphs and in earlier messages; the rest of the last
    human message and of the system message is the request.

    - Word limits in the request ("at most 150 words", "höchstens 100 Wörter") are obeyed.
    - Where the request names alternatives in capitals ("BUY, HOLD or SELL"), the answer closes with
      the one that the material names most often, in any form.
    - A bound tool is called when the request names it or shares several words with it, each tool
      at most once in a conversation; then the answer is taken from what the tool returned.
    - With ``tool_choice`` (and so with ``with_structured_output``) the arguments are filled from
      the prompt by the type of each field, so that the schema validates.

    Example:
        >>> model = ExtractiveChatModel()
        >>> notes = "Orders rose by 12 % in May. The canteen was painted. Margins fell."
        >>> question = "How did orders do? Max 7 words."
        >>> answer = model.invoke(f"{question}\n<notes>\n{notes}\n</notes>")
        >>> answer.text
        'Orders rose by 12 % in May.'
        >>> answer.response_metadata["note"]
        'extractive stand-in, not a language model'
    """

    model_config = ConfigDict(extra="forbid")

    model: str = "extractive-1"
    """Reported as the model that answered. No rate card has a price for the default."""
    max_tokens: PositiveInt | None = None
    """Longest answer in tokens, unless the call says otherwise."""
    stop: list[str] | None = None
    """The answer ends before the first of these, unless the call says otherwise."""
    verbosity: PositiveFloat = 1.0
    """Scales the length of answers; a word limit in the prompt is kept at any verbosity."""
    tokenizer: str = "gpt-4o"
    """The model whose tokens are reported, as there is none of its own."""
    streaming: bool = False
    """Whether ``invoke`` streams inside, for handlers that watch tokens arrive."""

    temperature: float | None = None
    """Taken, as every chat model does, and without effect. So are the next three."""
    timeout: float | None = None
    max_retries: int | None = None
    api_key: SecretStr | None = None

    @property
    def _llm_type(self) -> str:
        return "tokenopt-extractive"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("model", "max_tokens", "stop", "verbosity", "tokenizer")
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "tokenopt-offline"
        params["ls_model_name"] = kwargs.get("model") or self.model
        return params

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Show *tools* to the stand-in, in OpenAI's format.

        Args:
            tools: Anything that ``convert_to_openai_tool`` takes.
            tool_choice: ``"any"``, ``"required"``, ``True`` or a tool's name force a call;
                ``"none"`` and ``False`` forbid it; ``"auto"`` and ``None`` leave it open.
            **kwargs: Bound as they are.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._reply(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._reply(messages, stop, kwargs)):
            yield ChatGenerationChunk(message=chunk)

    def _reply(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AIMessage:
        """Write the whole answer."""
        tools = kwargs.get("tools") or []
        functions = [tool["function"] for tool in tools if "function" in tool]
        caps = (kwargs.get(name) for name in CAP_NAMES)
        cap = next(filter(None, caps), self.max_tokens)
        prompt = Prompt.of(messages)
        function = chosen_tool(functions, kwargs.get("tool_choice"), prompt)
        if function is None:
            message, written = self._text_message(prompt, stop or self.stop or (), cap)
        else:
            message, written = self._tool_message(function, prompt, cap)
        read = count_messages(messages, tools or None, model=self.tokenizer).tokens
        wrote = self._count(written)
        message.usage_metadata = UsageMetadata(
            input_tokens=read, output_tokens=wrote, total_tokens=read + wrote
        )
        message.response_metadata |= {
            "model_name": kwargs.get("model") or self.model,
            "model_provider": "tokenopt-offline",
            "note": NOTE,
        }
        return message

    def _text_message(
        self, prompt: Prompt, stop: Sequence[str], cap: int | None
    ) -> tuple[AIMessage, str]:
        """Return an answer, cut at the first stop sequence and at *cap* tokens, and its text."""
        whole = _answer(prompt, self.verbosity)
        ends = (whole.find(sequence) for sequence in stop if sequence)
        whole = whole[: min((end for end in ends if end >= 0), default=len(whole))]
        text = self._first_tokens(whole, cap)
        reason = "stop" if text == whole else "length"
        return AIMessage(text, response_metadata={"finish_reason": reason}), text

    def _tool_message(
        self, function: Mapping[str, Any], prompt: Prompt, cap: int | None
    ) -> tuple[AIMessage, str]:
        """Return a call and its text; an invalid call, as from any model, if it had to be cut."""
        name, arguments = function["name"], arguments_for(function, prompt)
        whole = json.dumps(arguments, ensure_ascii=False)
        seed = f"{len(prompt.called)} {name} {whole}".encode(errors="replace")
        call_id = f"call_{hashlib.blake2b(seed, digest_size=9).hexdigest()}"
        text = self._first_tokens(name + whole, cap)
        if text == name + whole:
            call = tool_call(name=name, args=arguments, id=call_id)
            reason = {"finish_reason": "tool_calls"}
            return AIMessage("", tool_calls=[call], response_metadata=reason), text
        cut = invalid_tool_call(
            name=name, args=text[len(name) :], id=call_id, error=f"cut at {cap:,} tokens"
        )
        reason = {"finish_reason": "length"}
        return AIMessage("", invalid_tool_calls=[cut], response_metadata=reason), text

    def _count(self, text: str) -> int:
        return counter_for(self.tokenizer).count(text).tokens

    def _first_tokens(self, text: str, cap: int | None) -> str:
        """Return the longest beginning of *text*, by bisection, that has at most *cap* tokens."""
        if cap is None or self._count(text) <= cap:
            return text
        fits, too_long = 0, len(text)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self._count(text[:middle]) <= cap:
                fits = middle
            else:
                too_long = middle
        return text[:fits]


def _chunks(reply: AIMessage) -> Iterator[AIMessageChunk]:
    """Cut an answer into what a stream shows: word by word, usage and reason at the end."""
    for piece in re.findall(r"\S+\s*|\s+", reply.text):
        yield AIMessageChunk(content=piece)
    calls: list[tuple[str | None, str | None, str | None]] = [
        (call["name"], json.dumps(call["args"]), call["id"]) for call in reply.tool_calls
    ]
    calls += [(call["name"], call["args"], call["id"]) for call in reply.invalid_tool_calls]
    for index, (name, written, call_id) in enumerate(calls):
        piece = tool_call_chunk(name=name, args=written, id=call_id, index=index)
        yield AIMessageChunk(content="", tool_call_chunks=[piece])
    yield AIMessageChunk(
        content="",
        usage_metadata=reply.usage_metadata,
        response_metadata=reply.response_metadata,
        chunk_position="last",
    )


def _answer(prompt: Prompt, verbosity: float) -> str:
    """Return the best sentences in their order, within the word limit."""
    limit = prompt.max_words
    room = max(1, round((DEFAULT_WORDS if limit is None else limit) * verbosity))
    room = room if limit is None else min(room, limit)
    closing = _closing(prompt, room)
    body = prompt.extract(prompt.request, room - words_in(closing))
    return "\n".join(filter(None, (body, closing)))


_ALTERNATIVES = re.compile(
    r"(?P<label>\b[^\W\d_]+: )?(?P<names>\b[A-Z]{2,}(?:, ?[A-Z]{2,})*,? (?:or|oder) [A-Z]{2,}\b)"
)


def _closing(prompt: Prompt, max_words: int) -> str:
    """Return the line that decides between alternatives such as "BUY, HOLD or SELL", if asked."""
    match = _ALTERNATIVES.search(prompt.instructions)
    if match is None:
        return ""

    def mentions(name: str) -> int:
        in_any_form = re.compile(rf"\b{name}", re.IGNORECASE)  # HOLD: holds, holding
        return sum(len(in_any_form.findall(sentence)) for sentence in prompt.sentences)

    decision = max(re.findall(r"[A-Z]{2,}", match["names"]), key=mentions)
    reason = prompt.best(f"{decision} {prompt.request}")
    line = f"{match['label'] or ''}{decision}. {reason}".strip()
    return first_words(line, min(max_words, CLOSING_WORDS))
