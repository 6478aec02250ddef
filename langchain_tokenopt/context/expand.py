"""Fetching back: the tool by which a model gets the original of what was set aside.

Through the seam nobody has to do anything for it: the tool comes with the first handle, and its
calls are answered there. As an ordinary tool of an agent it reads the compressor's store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool

from langchain_tokenopt.context.levels import HANDLE_FORM
from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.tool_schemas import declared_functions
from langchain_tokenopt.counting.request_tokens import count_tools
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.tools.answered_call import AnsweredCall
from langchain_tokenopt.tools.find_more import CallFilter, exchange, free_name, tool_like
from langchain_tokenopt.tools.result_limit import CompressingLoader
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
HANDLE: Final = "The eight characters of the handle, such as 1a2b3c4d."
_LONGEST: Final = 8_000
"""Tokens of an original that is shown as a whole; of longer ones, what the question needs."""
_COUNTER: Final = steady_counter_of_name("o200k_base")


def expand_tool(compressor: HasOriginals) -> BaseTool:
    """Return a tool that gives an agent the original of what *compressor* has set aside.

    For agents and graphs that call their tools themselves. A model that the compressor was plugged
    into with ``optimize`` needs none: there the calls are answered inside.

    Originals are those of the user and the thread in the metadata of the run (``user_id``,
    ``thread_id``). A handle that is not theirs, or has expired, is answered by a sentence.

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
        made_by = attribution_of({**config.get("configurable", {}), **config.get("metadata", {})})
        return answer(handle, store.get(handle, user=made_by.user, thread=made_by.thread_id), None)

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


def answer(handle: str, original: str | None, query: str | None) -> str:
    """Return what the model is told."""
    if original is None:
        named = f"the handle {handle}" if HANDLE_FORM.fullmatch(handle) else "that handle"
        return (
            f"Nothing is kept under {named}: it is not of this conversation, or has expired. Call "
            f"the tool again that it came from."
        )
    if _COUNTER.count(original).tokens <= _LONGEST:
        return original
    return CompressingLoader().shorten(original, _LONGEST, query)


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
    found = tools_of(request.kwargs)
    names = [] if found is None else [*found.by_name, *found.others]
    if _is_ours(request):
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
    return OwnTool(name, [*given, tool], count_tools([tool], request.facts.model_name).tokens)


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

    Args:
        request: As it is sent.
        tool: The tool, which the application does not know.
        original: Returns the original of a handle, or ``None``.
        done: Told when the answer stands, or there is none.
    """

    def __init__(
        self,
        request: ModelRequest,
        tool: OwnTool,
        original: Callable[[str], str | None],
        query: str | None,
        done: Callable[[], None],
    ) -> None:
        self._tool, self._original, self._query, self._done = tool, original, query, done
        found = tools_of(request.kwargs)
        self._names = [] if found is None else [*found.by_name, *found.others]
        super().__init__(request, streaming=request.streaming)

    def new_filter(self) -> CallFilter:
        """Hold back calls of the tool."""
        return CallFilter(self._tool.name, (), self._names)

    def asks(self, message: AIMessage) -> bool:
        """Whether the model only fetches something back."""
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        return bool(calls) and all(call["name"] == self._tool.name for call in calls)

    def stood(self, message: AIMessage) -> None:
        """Nothing is learned from it."""

    def next_request(self, message: AIMessage) -> ModelRequest:
        """Append the originals behind everything, which leaves the prefix as it is."""
        own: list[Mapping[str, Any]] = [
            call["args"] for call in message.tool_calls if call["name"] == self._tool.name
        ]
        own += [{"handle": call["args"] or ""} for call in message.invalid_tool_calls]
        texts = [self._answer(args) for args in own]
        added = exchange(message, self._tool.name, own, texts)
        self.request = self.request.override(messages=[*self.request.messages, *added])
        return self.request

    def _answer(self, args: Mapping[str, Any]) -> str:
        handle = str(args.get("handle") or next(iter(args.values()), ""))
        return answer(handle, self._original(handle), self._query)

    def marked(self, message: BaseMessage) -> dict[str, Any]:
        """The answer says nothing of it."""
        return message.response_metadata

    def finished(self, called: Iterable[str]) -> None:
        """Record what was saved."""
        self._done()
