"""The synchronous half of the seam: performs the work of the stages, and asks the model."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from langchain_core.callbacks import (
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_tokenopt.chat_model.stage_chain import StageChain, Step, as_one_chunk
from langchain_tokenopt.chat_model.staged_call import begin
from langchain_tokenopt.chat_model.streams import (
    announced_with,
    as_chunks,
    may_stream,
    refuses_streams,
    streaming_model,
    takes_parameter,
    with_mark,
)
from langchain_tokenopt.request.model_request import Answer

Done = TypeVar("Done")

__all__ = ["generate", "stream"]


def generate(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    """Answer as ``_generate`` does, through the stages."""
    with begin(self, messages, stop, kwargs, run_manager, streaming=False) as chain:
        while True:
            _perform(chain.opening())
            answer = _ask(chain, run_manager)
            done = _perform(chain.closing(answer, repeatable=True))
            if done is not None:
                return with_mark(chain.whole_bill(done.result), chain.mark_of_stop())


def stream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> Iterator[ChatGenerationChunk]:
    """Answer as ``_stream`` does, through the stages."""
    with begin(self, messages, stop, kwargs, run_manager, streaming=True) as chain:
        shown = False
        while True:
            _perform(chain.opening())
            source = _pieces(chain, run_manager)
            listener = None if chain.passes_pieces else run_manager
            try:
                for chunk in source:
                    for piece in map(chain.with_earlier, chain.feed(chunk)):
                        _announce(piece, listener)
                        yield piece
                        shown = True
                    if chain.stopped:
                        break
            finally:
                source.close()
            rest = _perform(chain.resting())
            chain.refuse_nothing()
            if chain.wants_answer:
                closing = chain.closing(chain.shown_answer(), repeatable=not shown)
                if _perform(closing) is None:
                    continue
            for piece in (*map(chain.with_earlier, rest), *as_chunks(chain.mark_of_stop())):
                _announce(piece, listener)
                yield piece
            return


def _ask(chain: StageChain, run_manager: CallbackManagerForLLMRun | None) -> Answer:
    """Ask the model, in a stream where a stage may want to stop it."""
    request = chain.request
    if chain.answer is not None:
        return _perform(chain.whole(chain.answer.result))
    if chain.wants_stream and may_stream(request, async_api=False):
        source = _pieces(chain, None)
        try:
            for chunk in source:
                chain.feed(chunk)
                if chain.stopped:
                    break
        except Exception as error:
            if not refuses_streams(error, chain):
                raise
        else:
            rest = _perform(chain.resting())
            if chain.has_arrived or rest:
                return chain.shown_answer()
            # A stream of nothing. The caller has not asked for one: the model may answer at once.
        finally:
            source.close()
    chain.run.closed = False
    return _perform(chain.whole(_whole(chain, run_manager)))


def _whole(chain: StageChain, run_manager: CallbackManagerForLLMRun | None) -> ChatResult:
    """The model's answer in one piece."""
    request = chain.request
    _wait_for_turn(chain)
    takes_manager = takes_parameter(request.model._generate, "run_manager")
    manager = {"run_manager": run_manager} if takes_manager else {}
    try:
        return request.model._generate(request.messages, request.stop, **manager, **request.kwargs)
    except Exception as error:  # noqa: BLE001  raised again, unless it is an answer
        return chain.rescued(error)


def _pieces(
    chain: StageChain, run_manager: CallbackManagerForLLMRun | None
) -> Generator[ChatGenerationChunk, None, None]:
    """The answer as chunks: a stage's in one, the model's as they come."""
    if chain.answer is not None:
        yield as_one_chunk(chain.answer)
        return
    if not chain.streams(async_api=False):
        yield as_one_chunk(Answer(_whole(chain, run_manager)))
        return
    request = chain.request
    _wait_for_turn(chain)
    stream = streaming_model(request)._stream
    manager = {}
    if run_manager is not None and chain.passes_pieces and takes_parameter(stream, "run_manager"):
        manager = {"run_manager": run_manager}  # the model announces its pieces, if it does
    source = stream(request.messages, request.stop, **manager, **request.kwargs)
    try:
        yield from source
    except Exception as error:  # noqa: BLE001  raised again, unless it is an answer
        yield chain.rescued_end(error)
    finally:
        if hasattr(source, "close"):
            source.close()  # cancels the HTTP request now, not when the garbage is collected
            request.run.closed = True


def _perform(steps: Generator[Step, Any, Done]) -> Done:
    """Do the stages' work, one step after the other."""
    done: Any = None
    while True:
        try:
            _, work, _ = steps.send(done)
        except StopIteration as finished:
            value: Done = finished.value
            return value
        done = work()


def _wait_for_turn(chain: StageChain) -> None:
    if chain.rate_limiter is not None:
        chain.run.waiting = True
        chain.rate_limiter.acquire(blocking=True)
        chain.run.waiting = False


def _announce(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> None:
    """Notify handlers of a piece as it is shown, where LangChain leaves that to the model."""
    if run_manager is not None:
        run_manager.on_llm_new_token(chunk.text, chunk=chunk, **announced_with(chunk))
