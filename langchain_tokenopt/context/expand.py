"""Fetching back: the tool by which a model gets the original of what was set aside.

Through the seam nobody has to do anything for it: the tool comes with the first handle, and its
calls are answered there. As an ordinary tool of an agent it reads the compressor's store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool

from langchain_tokenopt.context.fetching import LEAST_PART, fetched_part, parted
from langchain_tokenopt.context.levels import HANDLE_FORM
from langchain_tokenopt.context.window import SURELY
from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.attribution import attribution_here
from langchain_tokenopt.core.tool_schemas import declared_functions, function_name
from langchain_tokenopt.counting.request_tokens import count_messages, count_tools
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.tools.answered_call import AnsweredCall
from langchain_tokenopt.tools.find_more import CallFilter, exchange, free_name, tool_like
from langchain_tokenopt.tools.selection_tools import tools_of

if TYPE_CHECKING:
    from langchain_tokenopt.context.originals import ContextStore

    class HasOriginals(Protocol):
        """What a compressor is to this module."""

        @property
        def originals(self) -> ContextStore: ...


__all__ = ["NAME", "ExpandCall", "OwnTool", "expand_tool", "own_tool"]

NAME: Final = "expand"
ABOUT: Final = (
    "Get the full text of what was set aside earlier in this conversation. Call it with the handle "
    "that stands in the mark, before saying that something is not known."
)
HANDLE: Final = "The whole handle of the mark, such as 1a2b3c4d."
_LONGEST: Final = 8_000
"""Tokens of an original that is given as a whole; longer ones come in parts."""
_OF_LIMIT: Final = 0.75
"""Share of a conversation's limit that an agent's tool may answer at once."""
_LAST_TOKENS: Final = 32
_LAST: Final = "[Nothing more is fetched for this answer: answer now, from what is there.]"
_FOLDED: Final = "This is what you have fetched of what was set aside:"
_ABOVE: Final = "It was fetched already, and stands above."
_GAVE_WAY: Final = "[left out again, to have room for what was fetched after it]"
_COUNTER: Final = steady_counter_of_name("o200k_base")


def expand_tool(compressor: HasOriginals) -> BaseTool:
    """Return a tool that gives an agent the original of what *compressor* has set aside.

    For agents and graphs that call their tools themselves. A model that the compressor was plugged
    into with ``optimize`` needs none: there the calls are answered inside.

    Originals are those of whose run it is: user and thread in its metadata (``user_id``,
    ``thread_id``). A handle that is not theirs, or has expired, is answered by a sentence. Longer
    ones than 8,000 tokens, or three quarters of the compressor's ``max_tokens``, come in parts:
    each says how much it is of how much, and by which handle it goes on.

    Args:
        compressor: Whose handles are answered. From now on its views have handles everywhere.

    Raises:
        TypeError: It is no ``ContextCompressor`` and no ``ProgressiveLoader``.

    Example:
        >>> from langchain_tokenopt import ContextCompressor
        >>> tool = expand_tool(ContextCompressor())
        >>> tool.name, tool.invoke({"handle": "1a2b3c4d"})
        ('expand', 'Nothing is kept under the handle 1a2b3c4d: it is not of this conversation, or \
has expired. Call the tool again that it came from.')
    """
    refuse_class("a compressor", compressor)
    store = getattr(compressor, "originals", None)
    if store is None:
        raise TypeError(
            f"compressor is a ContextCompressor or a ProgressiveLoader; got {shown(compressor)}."
        )

    def expand(handle: str, config: RunnableConfig) -> str:
        made_by = attribution_here({**config.get("configurable", {}), **config.get("metadata", {})})
        known, start = parted(handle)
        original = store.get(known, user=made_by.user, thread=made_by.thread_id)
        if original is None:
            return _unknown(handle)
        limit = getattr(compressor, "own_limit", None)
        most = _LONGEST if limit is None else min(_LONGEST, int(_OF_LIMIT * limit))
        most = max(LEAST_PART, most)  # under the smallest limits, too, nothing is out of reach
        made = fetched_part(original, known, start, most, _count, NAME)
        return made or _no_room(known, _count(original), most)

    return StructuredTool.from_function(
        func=expand,
        name=NAME,
        description=ABOUT,
        args_schema={
            "type": "object",
            "properties": {"handle": {"type": "string", "description": HANDLE}},
            "required": ["handle"],
        },
    )


def _count(text: str) -> int:
    return _COUNTER.count(text).tokens


def _unknown(handle: str) -> str:
    named = f"the handle {handle}" if HANDLE_FORM.fullmatch(parted(handle)[0]) else "that handle"
    return (
        f"Nothing is kept under {named}: it is not of this conversation, or has expired. Call "
        f"the tool again that it came from."
    )


def _no_room(handle: str, tokens: int, room: int) -> str:
    return f"{handle} has {tokens:,} tokens, and there is room for {max(0, room):,} more."


class OwnTool:
    """The tool as one request has it.

    Args:
        name: What it is called.
        tools: All tools of the request with it; ``None``: the application has it already.
        tokens: What it adds to the request.
    """

    def __init__(self, name: str, tools: Sequence[Any] | None, tokens: int) -> None:
        self.name, self.tools, self.tokens = name, tools, tokens


def own_tool(request: ModelRequest) -> OwnTool | None:
    """Return the tool for a request; ``None``: none can be added, so there are no handles."""
    given = request.kwargs.get("tools") or []
    names = _names_in(request)
    if NAME in names and _is_ours(request):
        return OwnTool(NAME, None, 0)
    name = free_name(names, NAME)
    tool: Any = None
    if given and isinstance(given, list) and not request.facts.answer_form.tool_is_answer:
        likes = (tool_like(each, name, ABOUT, {"handle": HANDLE}) for each in given)
        tool = next((each for each in likes if each is not None), None)
    elif not request.tools and not request.facts.answer_form.is_structured:
        tool = _bound(request, name)
    if tool is None:
        return None
    return OwnTool(name, [*given, tool], _tokens_beside(given, tool, request.facts.model_name))


def _tokens_beside(given: Sequence[Any], tool: Any, model: str) -> int:
    """Return what a tool adds to a request with *given* tools: the first one brings a frame."""
    alone = count_tools([tool], model).tokens
    return count_tools([tool, tool], model).tokens - alone if given else alone


def _names_in(request: ModelRequest) -> list[str]:
    """Return the names that the tools of a request have."""
    names = [function_name(tool) for tool in request.kwargs.get("tools") or ()]
    plain = [name for name in names if name is not None]
    if names and len(plain) == len(names):
        return plain
    found = tools_of(request.kwargs)
    given = [] if found is None else [*found.by_name, *found.others]
    declared = (function for tool in request.tools for function in declared_functions(tool))
    return [*given, *(function.name for function in declared)]


def _is_ours(request: ModelRequest) -> bool:
    return any(
        function.name == NAME and function.description == ABOUT
        for tool in request.tools
        if isinstance(tool, Mapping)
        for function in declared_functions(tool)
    )


def _bound(request: ModelRequest, name: str) -> Any:
    """Return the tool in the format of a model that was given none, if it can call tools."""
    profile = getattr(request.model, "profile", None)
    if not isinstance(profile, dict) or not profile.get("tool_calling"):
        return None
    like: dict[str, Any] = {"type": "function", "function": {"name": "x", "parameters": {}}}
    tool: Any = tool_like(like, name, ABOUT, {"handle": HANDLE})
    try:
        bound: Any = request.model.bind_tools([tool])
        (made,) = bound.kwargs["tools"]
    except Exception:  # noqa: BLE001  foreign code: a model that cannot call tools after all
        return None
    return made


class ExpandCall(AnsweredCall):
    """A call whose handles are answered here.

    What is fetched comes behind everything else, in as many tokens as the model's window has left.
    When the model can be asked but once more, that is without the tool, and it is told so.

    Args:
        request: As it is sent.
        tool: The tool, which the application does not know.
        plain: Arguments of the request without the tool.
        window: Tokens that the model takes; ``None``: nobody says.
        original: Returns the original of a handle, or ``None``.
        done: Told what fetching has cost, when the answer stands or there is none.
    """

    def __init__(
        self,
        request: ModelRequest,
        tool: OwnTool,
        plain: Mapping[str, Any],
        window: int | None,
        original: Callable[[str], str | None],
        done: Callable[[int], None],
    ) -> None:
        self._tool, self._plain, self._original, self._done = tool, plain, original, done
        found = tools_of(request.kwargs)
        self._names = [] if found is None else [*found.by_name, *found.others]
        self._first, self._window = request, window
        self._added: list[BaseMessage] = []
        self._earlier = 0
        self._given: dict[str, str] = {}
        self._has_ceased = False
        super().__init__(request, streaming=request.streaming)

    def new_filter(self) -> CallFilter:
        """Hold back calls of the tool."""
        return CallFilter(self._tool.name, (), self._names)

    def asks(self, message: AIMessage) -> bool:
        """Whether the model only fetches something back."""
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        fetches = bool(calls) and all(call["name"] == self._tool.name for call in calls)
        return fetches and not self._has_ceased

    def stood(self, message: AIMessage) -> None:
        """Nothing is learned from it."""

    def next_request(self, message: AIMessage) -> ModelRequest:
        """Append the originals behind everything, which leaves the prefix as it is."""
        own: list[Mapping[str, Any]] = [
            call["args"] for call in message.tool_calls if call["name"] == self._tool.name
        ]
        own += [{"handle": call["args"] or ""} for call in message.invalid_tool_calls]
        self._has_ceased = self.request.run.repeats_left <= 1
        self._earlier, texts = len(self._added), [""] * len(own)
        for at, args in enumerate(own):
            self._show(message, own, texts)
            texts[at] = self._answer(args, len(own) - at)
        self._show(message, own, texts)
        self.request = self._last() if self._has_ceased else self._with(self._added)
        return self.request

    def _show(
        self, message: AIMessage, own: Sequence[Mapping[str, Any]], texts: Sequence[str]
    ) -> None:
        """Put what the model asks for now behind what it has fetched before."""
        self._added[self._earlier :] = exchange(message, self._tool.name, own, texts)

    def _with(self, added: Sequence[BaseMessage]) -> ModelRequest:
        return self._first.override(messages=[*self._first.messages, *added])

    # Room

    @cached_property
    def _room_first(self) -> int | None:
        """Tokens that the model's window has left as long as nothing was fetched."""
        if self._window is None:
            return None
        used = self._first.facts.input_tokens
        return int(self._window / (1.0 if used.exact else SURELY)) - used.tokens - _LAST_TOKENS

    def _room(self) -> int:
        """Return how many tokens more may be fetched."""
        if self._room_first is None:
            return _LONGEST
        name = self._first.facts.model_name
        added = (
            count_messages(self._added, model=name).tokens - count_messages([], model=name).tokens
        )
        return self._room_first - added

    def _make_room(self, wanted: int) -> int:
        """Leave out what was fetched before, the oldest first, until there is room."""
        for at, message in enumerate(self._added[: self._earlier]):
            if self._room() >= wanted:
                break
            if isinstance(message, ToolMessage) and len(message.text) > 2 * len(_GAVE_WAY):
                self._added[at] = message.model_copy(update={"content": _GAVE_WAY})
        return self._room()

    # Answers

    def _answer(self, args: Mapping[str, Any], number: int) -> str:
        """Return what the model is told, the first of so many calls."""
        handle = str(args.get("handle") or next(iter(args.values()), ""))
        if any(message.text == self._given.get(handle) for message in self._added):
            return _ABOVE
        known, start = parted(handle)
        original = self._original(known)
        if original is None:
            return _unknown(handle)
        tokens = self._count(original[start:])
        room = min(_LONGEST, self._make_room(min(_LONGEST, tokens) * number) // number)
        made = fetched_part(original, known, start, room, self._count, self._tool.name)
        if made is None:
            self._has_ceased = True
            return _no_room(known, tokens, room)
        self._given[handle] = made
        return made

    def _count(self, text: str) -> int:
        return self._first.facts.counter.count(text).tokens

    def _last(self) -> ModelRequest:
        """Return the request after which nothing is fetched any more: without the tool.

        Providers refuse calls in a conversation that has no tools: where there are no others, a
        message says what was fetched.
        """
        added = self._added
        if self._plain.get("tools"):
            last = added[-1]
            added = [*added[:-1], last.model_copy(update={"content": f"{last.text}\n{_LAST}"})]
        else:
            texts = [message.text for message in added if isinstance(message, ToolMessage)]
            added = [HumanMessage("\n\n".join((_FOLDED, *texts, _LAST)))]
        if self._room() < 0:  # not even room to say so
            added = []
        return self._with(added).override(kwargs=self._plain)

    def marked(self, message: BaseMessage) -> dict[str, Any]:
        """The answer says nothing of it."""
        return message.response_metadata

    def finished(self, called: Iterable[str]) -> None:
        """Record what was saved, and spent on fetching."""
        fetched = 0
        if self.request is not self._first:
            fetched = self.request.facts.input_tokens.tokens - self._first.facts.input_tokens.tokens
        self._done(self.spent.total_tokens + fetched)
