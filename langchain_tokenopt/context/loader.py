"""The loader: documents, retrievers and tool results, a tier at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from langchain_core.callbacks import Callbacks
from langchain_core.documents import (
    BaseDocumentCompressor,
    BaseDocumentTransformer,
    Document,
)
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, run_in_executor
from pydantic import ConfigDict, PrivateAttr

from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.context.originals import ContextStore
from langchain_tokenopt.context.tier_history import TierHistory
from langchain_tokenopt.context.tier_needs import Use
from langchain_tokenopt.context.tier_sending import TierSending, TierStats
from langchain_tokenopt.context.tier_sources import (
    config_of,
    is_content,
    made_by_whom,
    question_in,
    source_of,
)
from langchain_tokenopt.context.tiers import (
    TIERS,
    count,
    shares_of,
)
from langchain_tokenopt.core.argument_checks import (
    check_flag,
    check_whole,
    names_what,
    refuse_class,
    shown,
    takes_names,
)
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.messages import text_of, with_text
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.sinks import checked_sinks
from langchain_tokenopt.storage.learned_store import LearnedStore
from langchain_tokenopt.tools.result_limit import CompressingLoader

__all__ = ["ProgressiveLoader"]

_OF_BUDGET: Final = 4
"""A content may have this part of what a budget has left: 1 of 4 tokens."""
_LEAST: Final = 100
"""Tokens below which there is no room for a tier and its mark."""

AnyContent = TypeVar("AnyContent")


class ProgressiveLoader(
    RunnableSerializable[Any, Any], BaseDocumentCompressor, BaseDocumentTransformer
):
    """Send of a document, a retriever's or a tool's result what the question needs, and more later.

    A content is cut into tiers; each holds the one before, and the last is the content itself. The
    first one that is sent is that with which the fewest tokens are expected in all, what is asked
    for later included: by how much the question is likely to need, what the budget has left, and
    what this user has needed before for this kind of task. What was left out is marked with its
    size, and with a handle where somebody answers it: ``expand_tool(loader)`` in agents, or
    ``ContextCompressor(store=loader.originals)`` around the model, which needs no tool. Each
    fetches the next tier, and is learned from.

    Sentences, rows and blocks are kept or dropped whole; JSON stays JSON. Contents of up to 200
    tokens are sent as they are.

    As a runnable it takes a question (a text, messages, or a dict with ``question``, ``query`` or
    ``input``) and returns of *source* what is to be sent, in the source's own form; without a
    source it takes the content. It is a document compressor and transformer for retrievers, and a
    ``ResultLoader`` of ``BudgetedTool`` and ``ToolSet``. User and thread are those of the run
    (``user_id``, ``thread_id``), or as given.

    Args:
        source: A text, documents, a document loader, a retriever, a tool or any runnable or
            function that is asked with the question.
        tiers: Names, smallest first, whose shares of the content grow evenly from a tenth; or names
            with their shares.
        max_tokens: What is sent at first at most.
        learn: Whether uses are learned from.
        store: Keeps what is learned, by users; by default memory.
        originals: Keeps the tiers that were not sent, for those who ask for them.
        namespace: Application, in *store*.
        sinks: Told of each saving, and of what is fetched later.
        remember: Contents of which to remember what was made.

    Raises:
        ValueError: *tiers* or a size are none.
        TypeError: A source, a store, a flag, a name or a sink is none.

    Example:
        >>> text = " ".join(f"Gate {n} opens at {n} o'clock." for n in range(1, 100))
        >>> loader = ProgressiveLoader(text)
        >>> part = loader.invoke("When does gate 7 open?")
        >>> "Gate 7 opens at 7 o'clock." in part, len(part) < len(text) / 3
        (True, True)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    says_rest: ClassVar[bool] = True
    """To :class:`BudgetedTool`: results need no other line that says what was left out."""

    max_tokens: int
    tiers: dict[str, float]
    learn: bool

    _source: Any = PrivateAttr()
    _loads: bool = PrivateAttr()
    _sending: TierSending = PrivateAttr()

    @takes_names
    def __init__(
        self,
        source: Any = None,
        *,
        tiers: Sequence[str] | Mapping[str, float] = TIERS,
        max_tokens: int = 4_000,
        learn: bool = True,
        store: LearnedStore | None = None,
        originals: ContextStore | None = None,
        namespace: str = "",
        sinks: Sequence[UsageSink] = (),
        remember: int = 256,
    ) -> None:
        told = checked_sinks(sinks)
        if not isinstance(namespace, str):
            raise TypeError(f"namespace is a text; got {shown(namespace)}.")
        for name, given, kind in (
            ("store", store, LearnedStore),
            ("originals", originals, ContextStore),
        ):
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"{name} is a {kind.__name__}(path); got {shown(given)}.")
        fields: dict[str, Any] = {
            "max_tokens": check_whole("max_tokens", max_tokens, least=_LEAST),
            "tiers": shares_of(tiers),
            "learn": check_flag("learn", learn),
        }
        super().__init__(**fields)
        refuse_class("a source", source)
        self._loads = source is not None and not is_content(source)
        self._source = source_of(source) if self._loads else source
        self._sending = TierSending(
            self.tiers,
            TierHistory(store or LearnedStore(), namespace, [*self.tiers]),
            learn=learn,
            originals=originals,
            sinks=told,
            remember=check_whole("remember", remember, least=0),
        )

    @property
    def originals(self) -> ContextStore:
        """Where the next tiers are; from now on marks have handles: who asks for it answers them.

        For ``expand_tool(loader)``, and ``ContextCompressor(store=loader.originals)``.
        """
        self._sending.can_ask = True
        return self._sending.originals

    # A content

    def optimize_content(
        self,
        content: AnyContent,
        context: Any = None,
        user_id: str | None = None,
        task_type: str | None = None,
        *,
        thread_id: str | None = None,
    ) -> tuple[AnyContent, TierStats]:
        """Return of a content what is to be sent at first, and what that is.

        Args:
            content: A text, a document, documents, or a message with a text. Anything else comes
                back as it is.
            context: What it is for: a question, or the conversation, whose last question counts.
            user_id: Who needs it; by default whose run it is.
            task_type: Kind of the task, by which needs are learned; by default by what the question
                and the content are like.
            thread_id: Which of the user's conversations it is.

        Example:
            >>> loader = ProgressiveLoader()
            >>> text, stats = loader.optimize_content("Tea is hot.", "What is hot?", "ann")
            >>> text, stats.tier, stats.reason
            ('Tea is hot.', 'complete', 'it is short')
        """
        made_by = made_by_whom(ensure_config(), user_id, thread_id)
        return self._optimized(content, question_in(context), made_by, task_type)

    async def aoptimize_content(
        self,
        content: AnyContent,
        context: Any = None,
        user_id: str | None = None,
        task_type: str | None = None,
        *,
        thread_id: str | None = None,
    ) -> tuple[AnyContent, TierStats]:
        """As :meth:`optimize_content`, in a thread."""
        made_by = made_by_whom(ensure_config(), user_id, thread_id)
        query = question_in(context)
        return await run_in_executor(None, self._optimized, content, query, made_by, task_type)

    def _optimized(
        self, content: Any, query: str | None, made_by: Attribution, task: str | None = None
    ) -> tuple[Any, TierStats]:
        if isinstance(content, Document):
            (made,), stats = self._optimized([content], query, made_by, task)
            return made, stats
        if isinstance(content, BaseMessage):
            said = text_of(content)
            text, stats = self._optimized(said, query, made_by, task)
            return (content if text == said else with_text(content, text)), stats
        if not content or not is_content(content):
            return content, TierStats(
                [*self.tiers][-1], 0, 0, reason="it is no text and no documents"
            )
        given = content if isinstance(content, str) else [*content]
        use = Use(given, query, made_by.user or None, made_by.thread_id, task)
        made, stats = self._sending.sent(use, self._room(), made_by)
        return (content if made is given else made), stats

    def _room(self) -> int:
        """Return how much may be sent."""
        run = current_run()
        if run is None:
            return self.max_tokens
        report = run.report()
        left = min(account.left_tokens for account in (report.account, *report.limits))
        return max(_LEAST, min(self.max_tokens, left // _OF_BUDGET))

    # Runnable

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what of the source the question needs at first; without a source, of *input*.

        Raises:
            Exception: What the source raises.
        """
        return self._call_with_config(self._loaded, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As :meth:`invoke`; the work on it in a thread.

        Raises:
            Exception: What the source raises.
        """
        return await self._acall_with_config(self._aloaded, input, config, **kwargs)

    def _loaded(self, input: Any, run_manager: Any, config: RunnableConfig) -> Any:
        query, content = self._asked(input)
        if self._loads:
            content = self._source.invoke(query, config)
        return self._optimized(content, query, made_by_whom(config))[0]

    async def _aloaded(self, input: Any, run_manager: Any, config: RunnableConfig) -> Any:
        query, content = self._asked(input)
        if self._loads:
            content = await self._source.ainvoke(query, config)
        made_by = made_by_whom(config)
        return (await run_in_executor(config, self._optimized, content, query, made_by))[0]

    def _asked(self, input: Any) -> tuple[str | None, Any]:
        """Return the question, and the content as far as it is known."""
        if self._source is None:
            return None, input
        return question_in(input), self._source

    # Retrievers

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return of *documents* what *query* needs at first.

        User and thread are those of the run around, or in the metadata of *callbacks*.
        """
        made_by = made_by_whom(config_of(callbacks))
        made: Sequence[Document] = self._optimized(documents, query or None, made_by)[0]
        return made

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """As :meth:`compress_documents`, in a thread."""
        made_by = made_by_whom(config_of(callbacks))
        sent = await run_in_executor(None, self._optimized, documents, query or None, made_by)
        made: Sequence[Document] = sent[0]
        return made

    def transform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        """Return of *documents* what is to be sent at first.

        Args:
            documents: Of any number.
            kwargs: As for :meth:`optimize_content`, or nothing.
        """
        return self.optimize_content(documents, **kwargs)[0]

    async def atransform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        """As :meth:`transform_documents`, in a thread."""
        return (await self.aoptimize_content(documents, **kwargs))[0]

    # Tools

    def shorten(self, text: str, max_tokens: int, query: str | None) -> str:
        """Return of a tool's result what *query* needs at first, in *max_tokens* at most.

        For ``BudgetedTool.wrap(tool, limits, loader=loader)`` and ``ToolSet(..., loader=loader)``.
        """
        made_by = made_by_whom(ensure_config())
        if max_tokens >= _LEAST:
            use = Use(text, query, made_by.user or None, made_by.thread_id)
            made, _ = self._sending.sent(use, min(max_tokens, self._room()), made_by)
            if isinstance(made, str) and count(made) <= max_tokens:
                return made
        return CompressingLoader().shorten(text, max_tokens, query)

    # What is kept

    @names_what("clear()")
    def forget(self, *, user: str | None = None) -> int:
        """Delete what was learned from a user, and what was kept for them; return how much.

        Raises:
            ValueError: Nobody is named.
            TypeError: The user is ``None``, as where nobody is signed in.
            sqlite3.Error: A file stays locked or cannot be written.
        """
        assert user is not None
        return self._sending.forget(user)

    def clear(self) -> int:
        """Delete everything; else as :meth:`forget`."""
        return self._sending.clear()
