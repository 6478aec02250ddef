"""For whom and under what calls are made: what ``token_scope`` gives, and tools are built for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.core.context_blocks import block_here
from langchain_tokenopt.core.host_compat import DIRECTLY_INJECTED
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from langchain_tokenopt.tracking.unstaged_calls import UnstagedCalls

__all__ = ["TokenScope", "asked_by"]


class TokenScope(DIRECTLY_INJECTED):  # type: ignore[misc]
    """What :func:`token_scope` gives: who pays, and how much; it does not change.

    A tool with an argument of this type is given it by :func:`scoped_tools` and ``ToolSet``; the
    model does not see the argument. Made by ``token_scope``; see there.

    Attributes:
        usage: Every call below, as ``track_usage`` records it.
        run: The run of the plan, if one was given, or is around.
        user: Whose calls these are.
        organization: The same for a group of users.
        thread_id: Of the conversation.
        level: How much is shortened; ``None``: nobody has said.
        tags: Of every call of its tools.
    """

    _is_made = False

    def __init__(
        self,
        usage: TokenUsageCallbackHandler,
        run: BudgetRun | None,
        unstaged: UnstagedCalls,
        shortens: Sequence[str],
        *,
        user: str | None = None,
        organization: str | None = None,
        thread_id: str | None = None,
        level: Level | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        self.usage: Final = usage
        self.run: Final = run
        self.user: Final = user
        self.organization: Final = organization
        self.thread_id: Final = thread_id
        self.level: Final = level
        self.tags: Final = tuple(tags)
        self._unstaged = unstaged
        self._shortens = shortens
        self._block = block_here()
        self._is_made = True

    def __setattr__(self, name: str, value: object) -> None:
        if self._is_made:
            raise AttributeError(f"a scope does not change: begin another to set {name!r}.")
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenScope:
        """Return this scope: it is an account, of which there is one."""
        return self

    def inside(self) -> AbstractContextManager[object]:
        """Return a block in which the scope holds, in any thread or task; also when it is over.

        Where it holds already, what began inside of it goes on.
        """
        return nullcontext() if self._block is None else self._block.again()

    def uncovered(self) -> list[str]:
        """Say, a sentence each, what this scope could not do so far.

        Models that nobody staged are tracked, and charged to the plan; to shorten what they are
        sent, or to answer in their place, put :func:`stage_all` around.
        """
        if not self._shortens:
            return []
        return [
            f"{model}, called by {agent!r}, has no stages, so {' and '.join(self._shortens)} did "
            f"not apply to it: {_MEND[is_chat]}"
            for model, agent, is_chat in self._unstaged.models
        ]


_ATTRIBUTE_OF: Final[tuple[tuple[type, str], ...]] = (
    (BudgetRun, "run"),
    (TokenUsageCallbackHandler, "usage"),
)


def asked_by(function: Callable[..., Any], who: str) -> dict[str, Callable[[TokenScope], Any]]:
    """Return which arguments of *function* a scope gives, by their annotations, and how.

    A ``TokenScope`` is given the scope itself, a ``BudgetRun`` its run, and a
    ``TokenUsageCallbackHandler`` its tracker.

    Args:
        function: Of a tool; its annotations may be ``Optional`` or ``Annotated``.
        who: Its name, for errors.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names that are not there when it runs
        return {}
    hints.pop("return", None)
    asked: dict[str, Callable[[TokenScope], Any]] = {}
    for argument, hint in hints.items():
        parts = [*_parts_of(hint)]
        if TokenScope in parts:
            asked[argument] = _itself
        for kind, attribute in _ATTRIBUTE_OF:
            if kind in parts:
                asked[argument] = _getter(attribute, who, needed=NoneType not in parts)
    return asked


def _itself(scope: TokenScope) -> TokenScope:
    return scope


def _getter(attribute: str, who: str, *, needed: bool) -> Callable[[TokenScope], Any]:
    def get(scope: TokenScope) -> Any:
        value = getattr(scope, attribute)
        if value is None and needed:
            raise ValueError(
                f"{who} asks for the run of a plan, and its scope has none: give "
                f"token_scope(plan=...), or annotate the argument as BudgetRun | None."
            )
        return value

    return get


def _parts_of(hint: Any) -> Iterable[Any]:
    """Return the types of which an annotation is made, but not the arguments of generic ones."""
    yield hint
    if get_origin(hint) in (Annotated, Union, UnionType):
        for part in get_args(hint):
            yield from _parts_of(part)


_MEND: Final = {
    True: "put optimize(model) around it, or stage_all() around everything.",
    False: "it is a text model, which only LangChain's chat models can replace.",
}
