"""The requester: a runnable, and a graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_tokenopt.core.argument_checks import (
    check_choice,
    check_flag,
    check_name,
    check_whole,
    did_you_mean,
    shown,
    takes_names,
)
from langchain_tokenopt.data_requests.asking import asker_for
from langchain_tokenopt.data_requests.collected import DataCollected
from langchain_tokenopt.data_requests.collection import Collection, facts_of, request_text
from langchain_tokenopt.data_requests.graph import CollectionGraph
from langchain_tokenopt.data_requests.model_calls import ModelCalls, agent_of, tokens_left
from langchain_tokenopt.data_requests.needs import Needs
from langchain_tokenopt.data_requests.progress import Job
from langchain_tokenopt.data_requests.steps import begin
from langchain_tokenopt.data_requests.strategies import STRATEGIES, Strategy

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

__all__ = ["DataRequester"]

_KEYS: Final = ("request", "messages", "needs", "known", "ask")
_LISTED: Final = ", ".join(_KEYS)


class DataRequester(Runnable[Any, DataCollected]):
    """Ask for the data that a request needs and that nobody has given yet, for few tokens.

    Input: ``{"request": ..., "needs": ..., "known": ..., "ask": ...}``, of which all but the
    request may be given once and for all here; or the request alone, as a text or messages.
    Output: :class:`DataCollected`. Chunks of a stream are what is collected after each stage.

    A model is asked only where language is to be read: a request that may state some of the data,
    answers in free text, descriptions in another language than the request's. Mappings, JSON,
    ``name: value`` lines and single values are read without one. A value is taken only if it
    stands in the text that it comes from, whole and with its unit; else it is missing, and
    ``missing`` says why. What is known is not asked for.

    Each stage is an agent of its own, ``"data_requests/essential"`` and the like, in ledgers and in
    the account of the run that pays. Where its tokens end, what was collected is returned, with
    ``complete=False``.

    Args:
        model: Any chat model, staged or not; ``None``: answers in free text are not read.
        strategy: ``"simple"`` asks for everything at once, ``"chunked"`` for a few data points at
            a time, ``"progressive"`` for what is essential, then supporting, then enriching, as
            long as it is worth it, ``"critical"`` for the one that matters most; ``"auto"`` chooses
            by what is missing and by the tokens that the run has left.
        needs: A pydantic class, or a list of ``DataNeed``.
        known: What is known already: a mapping, an object, a ``DataCollected``, or several.
        ask: How a question reaches whoever has the data: a function, sync or async, a runnable, or
            ``"interrupt"``, LangGraph's, which is the default. It is given a ``DataQuestion``, a
            text that knows its needs, and returns a text, a message, a mapping or an object.
        chunk: Data points in one question, for ``"chunked"``.
        attempts: Times that a data point is asked for while what comes is no value of it.
        enough: Called with the values before each stage: whether to end here. By default the model
            that reads an answer says so, where later stages are left.
        wording: ``"auto"`` has questions worded by the model where the descriptions are in another
            language than the request, once for all requests in it; ``"model"`` always, ``"plain"``
            never.
        read_request: Whether the request is read for data that it states.
        name: In the names of its agents.

    Raises:
        ValueError: An option is none of those.
        TypeError: *ask*, *needs* or *known* is nothing of the kind.

    Example:
        >>> from langchain_tokenopt import DataNeed
        >>> needs = [DataNeed("city"), DataNeed("nights", "stay in days", type=int)]
        >>> requester = DataRequester(needs=needs, ask=lambda question: '{"nights": "3 days"}')
        >>> collected = requester.invoke({"request": "Plan my trip", "known": {"City": "Rome"}})
        >>> collected.values, collected.complete, collected.total_tokens
        ({'city': 'Rome', 'nights': 3}, True, 0)
    """

    @takes_names
    def __init__(
        self,
        model: Any = None,
        *,
        strategy: Strategy = "auto",
        needs: Any = None,
        known: Any = None,
        ask: Any = None,
        chunk: int = 4,
        attempts: int = 1,
        enough: Callable[[Mapping[str, Any]], bool] | None = None,
        wording: Literal["auto", "model", "plain"] = "auto",
        read_request: bool = True,
        name: str = "data_requests",
    ) -> None:
        if model is not None and not isinstance(model, BaseLanguageModel | Runnable):
            raise TypeError(
                f"model must be a chat model, or None for answers that need no reading; got "
                f"{shown(model)}."
            )
        check_choice("strategy", strategy, *STRATEGIES)
        check_choice("wording", wording, "auto", "model", "plain")
        if enough is not None and not callable(enough):
            raise TypeError(f"enough must be a function of the values; got {shown(enough)}.")
        self.model = model
        self.strategy: Strategy = strategy
        self.needs = None if needs is None else Needs.of(needs)
        self.known = known
        self.asker = asker_for(ask)
        self.chunk = check_whole("chunk", chunk)
        self.attempts = check_whole("attempts", attempts)
        self.enough = enough
        self.wording = wording
        self.read_request = check_flag("read_request", read_request)
        self.name: str = check_name("name", name)
        self._calls = ModelCalls(model, name)
        self._words: dict[tuple[str, str], str] = {}
        if self.needs is not None:
            facts_of(known, self.needs)

    # -- runnable ---------------------------------------------------------------------------------

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> DataCollected:
        """Collect; see the class.

        Raises:
            ValueError: Nothing says what is needed, or there is nobody to ask outside of a graph.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> DataCollected:
        """Collect; see the class.

        Raises:
            ValueError: Nothing says what is needed, or there is nobody to ask outside of a graph.
        """
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[DataCollected]:
        """Collect, and give what there is after each stage; the last is the whole."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> AsyncIterator[DataCollected]:
        """Collect, and give what there is after each stage; the last is the whole."""

        async def once() -> AsyncIterator[Any]:
            yield input

        stages = self._atransform_stream_with_config(once(), self._astream, config, **kwargs)
        async for collected in stages:
            yield collected

    def _invoke(self, given: Any, run_manager: Any, config: RunnableConfig) -> DataCollected:
        *_, last = self._stages(given, config)
        return last

    async def _ainvoke(self, given: Any, run_manager: Any, config: RunnableConfig) -> DataCollected:
        *_, last = [collected async for collected in self._astages(given, config)]
        return last

    def _stream(
        self, inputs: Iterator[Any], run_manager: Any, config: RunnableConfig
    ) -> Iterator[DataCollected]:
        for given in inputs:
            yield from self._stages(given, config)

    async def _astream(
        self, inputs: AsyncIterator[Any], run_manager: Any, config: RunnableConfig
    ) -> AsyncIterator[DataCollected]:
        async for given in inputs:
            async for collected in self._astages(given, config):
                yield collected

    def _stages(self, given: Any, config: RunnableConfig) -> Iterator[DataCollected]:
        collection = self.collection(given)
        if _is_in_graph(config):
            yield from self._graph_of(collection).stages(config)
            return
        collection.check_asker()
        shown_stages = -1
        progress = collection.start()
        collection.drive(begin(collection.job, progress), config)
        while progress.question is not None:
            if len(progress.stages) > max(shown_stages, 0):
                yield collection.collected(progress)
            shown_stages = len(progress.stages)
            collection.round(progress, config)
        yield collection.collected(progress)

    async def _astages(self, given: Any, config: RunnableConfig) -> AsyncIterator[DataCollected]:
        collection = self.collection(given)
        if _is_in_graph(config):
            async for collected in self._graph_of(collection).astages(config):
                yield collected
            return
        collection.check_asker()
        shown_stages = -1
        progress = collection.start()
        await collection.adrive(begin(collection.job, progress), config)
        while progress.question is not None:
            if len(progress.stages) > max(shown_stages, 0):
                yield collection.collected(progress)
            shown_stages = len(progress.stages)
            await collection.around(progress, config)
        yield collection.collected(progress)

    def _graph_of(self, collection: Collection) -> Any:
        return CollectionGraph(lambda state: collection)

    # -- graph ------------------------------------------------------------------------------------

    def as_graph(
        self,
        *,
        request: str = "request",
        known: str = "known",
        collected: str = "collected",
        checkpointer: Any = None,
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the requester as a graph, to stand alone or as a node of another.

        Its state has the request under *request* or in ``messages``, what is known under *known*,
        and in the end the :class:`DataCollected` under *collected*. After each answer stands a
        checkpoint: what was asked, answered or paid is so once, also when a graph that waits for a
        human goes on in another process. An interrupt's value is
        ``{"question": ..., "stage": ..., "needs": [...]}``.

        Args:
            request: The key of the request in the state.
            known: The key of what is known.
            collected: The key of the result.
            checkpointer: As for ``StateGraph.compile``; a node of another graph has that one's.

        Example:
            >>> requester = DataRequester(needs=["city"], ask=lambda question: {"city": "Rome"})
            >>> requester.as_graph().invoke({"request": "Plan it"})["collected"].values
            {'city': 'Rome'}
        """

        def collection(state: Mapping[str, Any]) -> Collection:
            given = {"request": state.get(request), "messages": state.get("messages")}
            return self.collection(
                {**given, "known": state.get(known), "needs": state.get("needs")}
            )

        return CollectionGraph(collection, request, known, collected).compiled(
            checkpointer, self.name
        )

    # -- one collection ---------------------------------------------------------------------------

    def collection(self, given: Any) -> Collection:
        """Return what is to be collected for an input.

        Raises:
            ValueError: Nothing says what is needed.
            TypeError: The input is nothing of the kind.
        """
        if not isinstance(given, Mapping):
            given = {"request": given}
        for key in given:  # others may be another step's: a chain hands on what it has
            if key not in _KEYS and (meant := did_you_mean(str(key), _KEYS)):
                raise ValueError(f"a data request has no {key!r}.{meant} It has {_LISTED}.")
        needs = self.needs if given.get("needs") is None else Needs.of(given["needs"])
        if needs is None:
            raise ValueError(
                "nothing says what is needed: give DataRequester(needs=...), or needs in the input."
            )
        said = given.get("request")
        request = request_text(given.get("messages") if said in (None, "") else said)
        job = Job(
            self.name,
            request,
            needs,
            self.strategy,
            self.chunk,
            self.attempts,
            self.wording,
            self.read_request and self.model is not None,
            self._words,
            lambda stage: tokens_left(agent_of(self.name, stage)),
            self.enough,
            self.model,
        )
        asker = self.asker if given.get("ask") is None else asker_for(given["ask"])
        facts = facts_of([self.known, given.get("known")], needs)
        return Collection(job, asker, self._calls, facts)


def _is_in_graph(config: RunnableConfig) -> bool:
    """Whether a node calls: what it does may be done again when the graph is resumed."""
    return "__pregel_task_id" in (config.get("configurable") or {})
