"""The stage that shows a model the few tools that a request needs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.core.argument_checks import check_whole, names_what, takes_names
from langchain_tokenopt.core.attribution import attribution_here
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.recent import Recent
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.sinks import checked_sinks
from langchain_tokenopt.core.tool_schemas import function_name
from langchain_tokenopt.embeddings import (
    EmbedderUnavailableError,
    LocalEmbeddings,
    checked_embeddings,
    embedder_fingerprint,
)
from langchain_tokenopt.embeddings.minilm import offline_folder
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall, TunableSetting
from langchain_tokenopt.tools.choice import FEW_TOKENS, FEW_TOOLS, Selected, choose, chosen_of
from langchain_tokenopt.tools.find_more import find_more_tool, free_name
from langchain_tokenopt.tools.learned_tools import LearnedTools, namespace_of, owner_pattern
from langchain_tokenopt.tools.ranking import Ranked, ToolRanking
from langchain_tokenopt.tools.selection_call import (
    STAGE,
    ObservedSelection,
    Selection,
    SelectionCall,
)
from langchain_tokenopt.tools.selection_history import (
    Ceiling,
    answered_calls,
    question_at,
    shown_names,
)
from langchain_tokenopt.tools.selection_tools import RequestTools, named_in_choice, tools_of
from langchain_tokenopt.tools.tool_lists import read_list

__all__ = ["ToolSelector"]

_KEPT: Final = 30
"""Tools that a conversation keeps showing, where no number is set: twice what a turn may need."""
_FOUND: Final = (5, 15)
"""Tools that the first and the second search of a call add; the third adds all there are."""
_REMEMBERED: Final = 8_192
_MOST_GROUPS: Final = 20
_NO_NAME: Final = "\0"
"""What no model calls."""

Value = TypeVar("Value")


class ToolSelector:
    """Show the model the few tools that a request needs, in any chain, graph or agent.

    It reads the tools from the request itself, in every provider's format, wherever and however
    long ago they were bound. Without asking a model it ranks them by what the user asks, and sends
    on those that may be needed; with few tools it does nothing. Always sent are the provider's own
    tools, forms for structured output, what ``tool_choice`` names, and tools whose calls wait for
    an answer.

    The model cannot get stuck: where tools were left out it is given one more,
    ``find_more_tools(query)``. When it calls that, the model is asked again with what was found,
    inside of the same call; the application sees neither the search nor its result. A tool that was
    left out and is called all the same is called, if the arguments fit; else it is added, and the
    model asked again. Both calls are counted and budgeted. A third search adds all tools.

    Within a turn tools are only added, behind the others, so that the provider's prompt cache keeps
    what it has; a new turn keeps them, too, as far as there is room. Which were shown stands on
    each answer (``response_metadata["tokenopt_tools"]``): a conversation goes on with the same
    tools in another process, from a checkpoint, and whatever was learned meanwhile.

    If it fails, all tools are sent.

    Args:
        max_tools: Tools that a conversation shows at most, those that always are and those that the
            model has searched for or called not counted. By default as many as the scores suggest.
        max_tokens: The same in tokens of their schemas; those of *always_include* count.
        always_include: Names of tools that are always shown.
        embeddings: Compares by meaning. By default the local model, where the extras ``local`` and
            ``offline`` are installed, so that nothing is downloaded; ``False``: words alone decide.
        learn: Whether calls that have succeeded teach which tools are meant. What one user's or
            tenant's calls teach (``user_id``, ``tenant_id`` in the metadata, or the user of a
            ``token_scope``) is used for nobody else.
        store: A file in which that is kept; by default it is forgotten with the process.
        slim: Whether what is shown has shorter schemas: first sentences, no examples.
        find_more: Whether the model may search for tools that were left out.
        sinks: Receive each saving and each :class:`~langchain_tokenopt.ToolChoice`.

    Raises:
        ValueError: If *max_tools* or *max_tokens* is below 1.

    Example:
        >>> selector = ToolSelector(max_tools=1, embeddings=False)
        >>> tools = [{"name": name, "input_schema": {}} for name in ("send_mail", "get_weather")]
        >>> [tool.name for tool in selector.select("What is the weather in Oslo?", tools)]
        ['get_weather']
    """

    phase = Phase.TOOLS
    blocking = True

    @takes_names
    def __init__(
        self,
        *,
        max_tools: int | None = None,
        max_tokens: int | None = None,
        always_include: Iterable[str] = (),
        embeddings: Embeddings | Literal[False] | None = None,
        learn: bool = True,
        store: str | Path | None = None,
        slim: bool = False,
        find_more: bool = True,
        sinks: Sequence[UsageSink] = (),
    ) -> None:
        if isinstance(always_include, str):
            raise TypeError(f"always_include must be names of tools; got {always_include!r}.")
        self.max_tools = None if max_tools is None else check_whole("max_tools", max_tools, least=1)
        self.max_tokens = (
            None if max_tokens is None else check_whole("max_tokens", max_tokens, least=1)
        )
        self.always_include = frozenset(always_include)
        self.slim = slim
        self.find_more = find_more
        self.sinks = checked_sinks(sinks)
        self._embeddings = checked_embeddings(
            _local() if embeddings is None else embeddings or None
        )
        self._learned = LearnedTools(store) if learn else None
        self._ranking = ToolRanking(self._embeddings, self._learned)
        self._choices = Recent[Any](_REMEMBERED)
        self._learnt = Recent[Any](_REMEMBERED)
        self._more = Recent[Any](_REMEMBERED)
        self._has_warned = False

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolSelector:
        """Return a copy that learns, and forgets, together with this one."""
        return copy(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Say why it cannot be pickled, where copies share what it holds."""
        raise TypeError(
            "A ToolSelector cannot be pickled: it holds locks and what was learned. Make one in "
            "each process; with the same store=PATH they learn together."
        )

    def __copy__(self) -> ToolSelector:
        """Return another object with the same settings and the same store."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    # Questions

    def select(self, query: str, tools: Iterable[Any]) -> list[Selected]:
        """Return the tools that a request needs, best first, with scores and reasons.

        Args:
            query: What is asked.
            tools: What ``bind_tools`` takes, or schemas in any provider's format. What runs at the
                provider is not among what is returned.
        """
        found = read_list(tools)
        ranked = self._ranking.rank(query, found.readable_cards, _namespace(None))
        chosen = choose(ranked, **self._room, always_include=self.always_include)
        return [replace(one, tool=found.readable[one.position][0]) for one in chosen]

    def explain(self, query: str, tools: Iterable[Any]) -> list[Ranked]:
        """Return all tools with their scores and reasons, best first."""
        return [*self._ranking.rank(query, read_list(tools).readable_cards, _namespace(None))]

    def classify(self, query: str, tools: Iterable[Any]) -> list[tuple[str, float]]:
        """Return which kinds of request it may be, by the tools' own groups, likeliest first."""
        return self._ranking.classify(query, read_list(tools).readable_cards, _namespace(None))

    @names_what("clear()")
    def forget(
        self, *, user: str | None = None, organization: str | None = None, tool: str | None = None
    ) -> int:
        """Forget what the calls of one user, organization or tool have taught.

        Args:
            user: Whose calls, in every organization.
            organization: Whose calls, of all its users; with *user*, that user's in it.
            tool: The name of a tool.

        Returns:
            Of how many tools the uses were forgotten.

        Raises:
            ValueError: None is given, which would be everything (see :meth:`clear`), or an empty
                name.
            TypeError: One is given as ``None``, as where nobody is signed in.
        """
        named = {"namespace": owner_pattern(user, organization), "tool": tool}
        self._choices.clear()
        if self._learned is None:
            return 0
        return self._learned.forget(**{name: one for name, one in named.items() if one is not None})

    def clear(self) -> int:
        """Forget all that calls have taught; return of how many tools there were uses."""
        self._choices.clear()
        return 0 if self._learned is None else self._learned.clear()

    # Stage

    @property
    def fingerprint(self) -> str:
        """Every setting that changes answers; none where the model can get at every tool."""
        if self.find_more and not self.slim:
            return ""
        embedder = None if self._embeddings is None else embedder_fingerprint(self._embeddings)
        always = sorted(self.always_include)
        settings = [self.max_tools, self.max_tokens, always, embedder, self.slim, self.find_more]
        return f"{STAGE}{json.dumps(settings)}"

    @property
    def tunable(self) -> Mapping[str, TunableSetting]:
        """How many tools are shown, where that is limited."""
        room = self._room.items()
        return {name: TunableSetting(most, least=1) for name, most in room if most is not None}

    def with_settings(self, settings: Mapping[str, float]) -> ToolSelector:
        """Return a selector with other limits, which learns together with this one."""
        made = copy(self)
        made.max_tools, made.max_tokens = (
            int(settings[name]) if name in settings else own for name, own in self._room.items()
        )
        made._choices = Recent[Any](_REMEMBERED)
        return made

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """As :meth:`open`, which reads and ranks in a thread."""
        if not any(request.kwargs.get(key) for key in ("tools", "functions", "toolConfig")):
            return None
        return await run_in_executor(None, self.open, request)

    def open(self, request: ModelRequest) -> StageCall | None:
        """Choose among the tools of a request."""
        return self._shielded(lambda: self._open(request))

    def _open(self, request: ModelRequest) -> StageCall | None:
        if self._are_surely_few(request.kwargs.get("tools")):
            return None
        tools = tools_of(request.kwargs)
        if tools is None or self._is_few(tools):
            return None
        namespace = _namespace(request)
        if self._learned is not None:
            self._learn(request, tools, namespace)
        fixed = tools.fixed(request.kwargs, self.always_include)
        shown = shown_names(
            request.messages,
            tools,
            fixed,
            lambda at: self._needed(request, tools, fixed, namespace, at),
            Ceiling(self.max_tools or _KEPT, self.max_tokens or float("inf")),
        )
        named = named_in_choice(request.kwargs) & tools.by_name.keys() - {*fixed, *shown}
        shown += sorted(named, key=lambda name: tools.by_name[name])
        name, more = _NO_NAME, None
        if self.find_more:
            name = free_name([*tools.by_name, *tools.others])
            more = self._more_tool(tools, name)
            if more is None:  # a format in which nothing can be added to the tools
                return None
        selection = Selection(request, tools, fixed, shown, name, more, self.slim)
        if not selection.hidden:
            return None
        if request.observe:
            return ObservedSelection(selection, self.sinks)
        call = SelectionCall(selection, self._search(selection, namespace), self.sinks)
        request.run.stages.append(STAGE)
        return call

    def _are_surely_few(self, given: Any) -> bool:
        """Whether all tools may be shown, as far as one sees without reading them."""
        if self.max_tokens is not None or not isinstance(given, list):
            return False
        most = FEW_TOOLS if self.max_tools is None else self.max_tools
        return len(given) <= most and all(function_name(tool) is not None for tool in given)

    def _is_few(self, tools: RequestTools) -> bool:
        """Whether all tools may be shown."""
        count = len(tools.by_name)
        if self.max_tools is None and self.max_tokens is None:
            return count <= FEW_TOOLS or tools.tokens <= FEW_TOKENS
        always = len(self.always_include & tools.by_name.keys())
        is_small = self.max_tokens is None or tools.tokens <= self.max_tokens
        return is_small and (self.max_tools is None or count - always <= self.max_tools)

    def _needed(
        self,
        request: ModelRequest,
        tools: RequestTools,
        fixed: Sequence[str],
        namespace: str,
        at: int,
    ) -> Sequence[str]:
        """Return the names of the tools that a turn needs, in the order of the application.

        A turn of an application that keeps no marks is asked about with each of its calls: the
        choice that it began with is kept, though something was learned since.
        """
        query = question_at(request.messages, at)
        if not query.strip():
            return self._without_question(tools, fixed)
        key = (namespace, query, request.messages[at].id, tools.names.keys)
        begins = at in (-1, len(request.messages) - 1)
        known: Sequence[str] | None = None if begins else self._choices.get(key)
        if known is None:
            ranked = self._ranking.rank(query, tools.names.readable, namespace)
            always = [*self.always_include, *fixed]
            chosen = {
                one.card.name for one in chosen_of(ranked, **self._room, always_include=always)
            }
            known = [name for name in tools.by_name if name in chosen]
            self._choices.put(key, known)
        return known

    def _without_question(self, tools: RequestTools, fixed: Sequence[str]) -> Sequence[str]:
        """Return the names of all tools, or of the first ones where the model may search."""
        if not self.find_more or (self.max_tools is None and self.max_tokens is None):
            return [*tools.by_name]
        ceiling = Ceiling(self.max_tools or len(tools.by_name), self.max_tokens or float("inf"))
        found: list[str] = []
        for name in tools.by_name:
            if name not in fixed and ceiling.holds(tools, [*found, name], fixed):
                found.append(name)
        return found

    @property
    def _room(self) -> dict[str, int | None]:
        return {"max_tools": self.max_tools, "max_tokens": self.max_tokens}

    def _more_tool(self, tools: RequestTools, name: str) -> Any:
        """Return the tool for searching, one object for all requests with the same tools."""
        key = tools.digest, tools.place, type(tools.tools[0])
        more = self._more.get(key)
        if more is None:
            like = next(t for t, card in zip(tools.tools, tools.cards, strict=True) if card)
            groups = sorted({card.group for card in tools.names.readable if card.group})
            more = find_more_tool(name, like, groups[:_MOST_GROUPS])
            self._more.put(key, more)
        return more

    def _search(self, selection: Selection, namespace: str) -> Callable[..., Sequence[str]]:
        """Return what finds more tools for one call."""
        cards = selection.tools.names.readable

        def search(query: str, hidden: Sequence[str], searches: int) -> Sequence[str]:
            if searches > len(_FOUND):
                return hidden
            ranked = self._shielded(lambda: self._ranking.rank(query, cards, namespace))
            if ranked is None:
                return hidden
            among = {*hidden}
            names = [one.card.name for one in ranked if one.card.name in among]
            return names[: _FOUND[searches - 1]]

        return search

    def _learn(self, request: ModelRequest, tools: RequestTools, namespace: str) -> None:
        """Learn from what the tools have just answered, once, however often it is sent."""
        turn, called = answered_calls(request.messages)
        query = question_at(request.messages, turn) if called else ""
        thread = request.facts.attribution.thread_id
        fresh = []
        for call_id, name in called.items():
            key = (namespace, thread, request.messages[turn].id, query, call_id, name)
            if name in tools.by_name and self._learnt.get(key) is None:
                self._learnt.put(key, True)
                fresh.append(name)
        if fresh and query.strip():
            self._ranking.learn(query, tools.names.readable, fresh, namespace)

    def _shielded(self, work: Callable[[], Value]) -> Value | None:
        """Return what *work* does; ``None`` where it fails, which is said once."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  foreign schemas and embedders: no call may break
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"ToolSelector failed ({type(error).__name__}: {error}); all tools are sent. "
                    f"This is not mentioned again.",
                    TokenOptWarning,
                    stacklevel=2,
                )
            return None


@cache
def _local() -> Embeddings | None:
    """Return the local embedder, where nothing has to be downloaded for it."""
    try:
        return LocalEmbeddings() if offline_folder() is not None else None
    except EmbedderUnavailableError:
        return None


def _namespace(request: ModelRequest | None) -> str:
    """Name those whose calls teach each other: one user of one organization, or nobody."""
    made_by = attribution_here({} if request is None else request.run.metadata)
    return _name_of(made_by.user, made_by.organization)


def _name_of(user: str | None, organization: str | None) -> str:
    return namespace_of(organization, user) if user or organization else ""
