"""The asynchronous half of the seam: what blocks goes to a thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import run_in_executor

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
from langchain_tokenopt.core.event_loop import done_beside_loop
from langchain_tokenopt.request.model_request import Answer

Done = TypeVar("Done")

__all__ = ["agenerate", "astream"]


async def agenerate(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    """Answer as ``_agenerate`` does, through the stages."""
    with begin(self, messages, stop, kwargs, run_manager, streaming=False) as chain:
        await _ready_to_count(chain)
        while True:
            await _aperform(chain.opening())
            answer = await _aask(chain, run_manager)
            done = await _aperform(chain.closing(answer, repeatable=True))
            if done is not None:
                return with_mark(chain.whole_bill(done.result), chain.mark_of_stop())


async def astream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> AsyncIterator[ChatGenerationChunk]:
    """Answer as ``_astream`` does, through the stages."""
    with begin(self, messages, stop, kwargs, run_manager, streaming=True) as chain:
        await _ready_to_count(chain)
        shown = False
        while True:
            await _aperform(chain.opening())
            source = _apieces(chain, run_manager)
            listener = None if chain.passes_pieces else run_manager
            try:
                async for chunk in source:
                    for piece in map(chain.with_earlier, chain.feed(chunk)):
                        await _aannounce(piece, listener)
                        yield piece
                        shown = True
                    if chain.stopped:
                        break
            finally:
                await source.aclose()
            rest = await _aperform(chain.resting())
            chain.refuse_nothing()
            if chain.wants_answer:
                closing = chain.closing(chain.shown_answer(), repeatable=not shown)
                if await _aperform(closing) is None:
                    continue
            for piece in (*map(chain.with_earlier, rest), *as_chunks(chain.mark_of_stop())):
                await _aannounce(piece, listener)
                yield piece
            return


async def _aask(chain: StageChain, run_manager: AsyncCallbackManagerForLLMRun | None) -> Answer:
    """Ask the model, in a stream where a stage may want to stop it."""
    request = chain.request
    if chain.answer is not None:
        return await _aperform(chain.whole(chain.answer.result))
    if chain.wants_stream and may_stream(request, async_api=True):
        source = _apieces(chain, None)
        try:
            async for chunk in source:
                chain.feed(chunk)
                if chain.stopped:
                    break
        except Exception as error:
            if not refuses_streams(error, chain):
                raise
        else:
            rest = await _aperform(chain.resting())
            if chain.has_arrived or rest:
                return chain.shown_answer()
            # A stream of nothing. The caller has not asked for one: the model may answer at once.
        finally:
            await source.aclose()
    chain.run.closed = False
    return await _aperform(chain.whole(await _awhole(chain, run_manager)))


async def _awhole(
    chain: StageChain, run_manager: AsyncCallbackManagerForLLMRun | None
) -> ChatResult:
    """The model's answer in one piece."""
    request = chain.request
    await _wait_for_turn(chain)
    takes_manager = takes_parameter(request.model._agenerate, "run_manager")
    manager = {"run_manager": run_manager} if takes_manager else {}
    try:
        return await request.model._agenerate(
            request.messages, request.stop, **manager, **request.kwargs
        )
    except Exception as error:  # noqa: BLE001  raised again, unless it is an answer
        return chain.rescued(error)


async def _apieces(
    chain: StageChain, run_manager: AsyncCallbackManagerForLLMRun | None
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The answer as chunks: a stage's in one, the model's as they come."""
    if chain.answer is not None:
        yield as_one_chunk(chain.answer)
        return
    if not chain.streams(async_api=True):
        yield as_one_chunk(Answer(await _awhole(chain, run_manager)))
        return
    request = chain.request
    await _wait_for_turn(chain)
    stream = streaming_model(request)._astream
    manager = {}
    if run_manager is not None and chain.passes_pieces and takes_parameter(stream, "run_manager"):
        manager = {"run_manager": run_manager}  # the model announces its pieces, if it does
    source = stream(request.messages, request.stop, **manager, **request.kwargs)
    try:
        async for chunk in source:
            yield chunk
    except Exception as error:  # noqa: BLE001  raised again, unless it is an answer
        yield chain.rescued_end(error)
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()
            request.run.closed = True


async def _aperform(steps: Generator[Step, Any, Done]) -> Done:
    """Do the stages' work; what blocks goes to a thread."""
    done: Any = None
    while True:
        try:
            blocking, work, coroutine = steps.send(done)
        except StopIteration as finished:
            value: Done = finished.value
            return value
        if coroutine is not None:
            done = await coroutine()
        else:
            done = await done_beside_loop(work) if blocking else work()


async def _ready_to_count(chain: StageChain) -> None:
    """Have the vocabulary loaded before the stages count: that reads files, in a thread."""
    if chain.has_stages:
        counter = chain.request.facts.counter
        if not counter.is_ready:
            await run_in_executor(None, counter.count, "")


async def _wait_for_turn(chain: StageChain) -> None:
    if chain.rate_limiter is not None:
        chain.run.waiting = True
        await chain.rate_limiter.aacquire(blocking=True)
        chain.run.waiting = False


async def _aannounce(
    chunk: ChatGenerationChunk, run_manager: AsyncCallbackManagerForLLMRun | None
) -> None:
    """Notify handlers of a piece as it is shown, where LangChain leaves that to the model."""
    if run_manager is not None:
        await run_manager.on_llm_new_token(chunk.text, chunk=chunk, **announced_with(chunk))
