"""A collection as a graph: a checkpoint stands between every answer and the next question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from langchain_tokenopt.data_requests.collected import DataCollected
from langchain_tokenopt.data_requests.collection import Collection
from langchain_tokenopt.data_requests.progress import Progress
from langchain_tokenopt.data_requests.steps import begin

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

__all__ = ["CollectionGraph"]

PROGRESS: Final = "data_request_progress"
"""The channel that holds how far a collection has come, as JSON."""
_ROUNDS: Final = 10_000
_FIND, _ASK = "find_missing", "ask"


class CollectionGraph:
    """Makes the graph of a collection.

    Args:
        collection: Says what is to be collected, by the state.
        request: The key of the request in the state.
        known: The key of what is known.
        collected: The key of the result; ``None``: it is read from the progress alone.
    """

    def __init__(
        self,
        collection: Callable[[Mapping[str, Any]], Collection],
        request: str = "request",
        known: str = "known",
        collected: str | None = None,
    ) -> None:
        self._collection = collection
        self._given = {request: Any, known: Any, "needs": Any}
        self._key = collected

    def compiled(
        self, checkpointer: Any = None, name: str = "data_requests"
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the graph."""
        given = {**self._given, "messages": Annotated[list[Any], add_messages]}
        result: dict[str, Any] = {} if self._key is None else {self._key: DataCollected}
        graph: Any = StateGraph(
            _typed_dict("State", {**given, **result, PROGRESS: dict[str, Any]}),
            input_schema=_typed_dict("Input", given),
            output_schema=_typed_dict("Output", result or {PROGRESS: dict[str, Any]}),
        )
        graph.add_node(_FIND, RunnableLambda(self._find, afunc=self._afind, name=_FIND))
        graph.add_node(_ASK, RunnableLambda(self._ask, afunc=self._aask, name=_ASK))
        graph.add_edge(START, _FIND)
        for node in (_FIND, _ASK):
            graph.add_conditional_edges(node, _goes_on, {_ASK: _ASK, END: END})
        made: CompiledStateGraph[Any, Any, Any, Any]
        made = graph.compile(checkpointer=checkpointer, name=name)
        return made

    def stages(self, config: RunnableConfig) -> Iterator[DataCollected]:
        """Run it as a part of the graph around it, and give what there is after each stage."""
        for state in self.compiled().stream({}, _inner(config), stream_mode="values"):
            if PROGRESS in state:
                yield self._collected(state)

    async def astages(self, config: RunnableConfig) -> AsyncIterator[DataCollected]:
        """Run it as a part of the graph around it, and give what there is after each stage."""
        async for state in self.compiled().astream({}, _inner(config), stream_mode="values"):
            if PROGRESS in state:
                yield self._collected(state)

    def _collected(self, state: Mapping[str, Any]) -> DataCollected:
        collection = self._collection(state)
        return collection.collected(Progress.of_json(state[PROGRESS], collection.job.needs))

    def _find(self, state: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        collection = self._collection(state)
        progress = collection.start()
        collection.drive(begin(collection.job, progress), config)
        return self._update(collection, progress)

    async def _afind(self, state: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        collection = self._collection(state)
        progress = collection.start()
        await collection.adrive(begin(collection.job, progress), config)
        return self._update(collection, progress)

    def _ask(self, state: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        collection = self._collection(state)
        progress = Progress.of_json(state[PROGRESS], collection.job.needs)
        collection.round(progress, config)
        return self._update(collection, progress)

    async def _aask(self, state: Mapping[str, Any], config: RunnableConfig) -> dict[str, Any]:
        collection = self._collection(state)
        progress = Progress.of_json(state[PROGRESS], collection.job.needs)
        await collection.around(progress, config)
        return self._update(collection, progress)

    def _update(self, collection: Collection, progress: Progress) -> dict[str, Any]:
        update: dict[str, Any] = {PROGRESS: progress.as_json(collection.job.needs)}
        if self._key is not None:  # what an earlier request has brought is not this one's
            is_over = progress.question is None
            update[self._key] = collection.collected(progress) if is_over else None
        return update


def _inner(config: RunnableConfig) -> RunnableConfig:
    """Let it have as many rounds as it needs: how many there are is known."""
    return {**config, "recursion_limit": _ROUNDS}


def _typed_dict(name: str, keys: Mapping[str, Any]) -> Any:
    """Return a class of dicts whose keys are known only now."""
    make: Any = TypedDict
    return make(f"DataRequest{name}", dict(keys), total=False)


def _goes_on(state: Mapping[str, Any]) -> str:
    return END if state[PROGRESS]["question"] is None else _ASK
