"""The compressor of conversations: a runnable, a stage, a hook."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.compress.options import DEFAULT_MODEL
from langchain_tokenopt.context.conversation import Conversation
from langchain_tokenopt.context.decisions import ContextPolicy, State
from langchain_tokenopt.context.digest import digest
from langchain_tokenopt.context.economics import (
    PriceProfile,
    profile_by_name,
    profile_named,
    profile_of,
)
from langchain_tokenopt.context.expand import NAME, ExpandCall, OwnTool, own_tool
from langchain_tokenopt.context.levels import Mark
from langchain_tokenopt.context.originals import ContextStore
from langchain_tokenopt.context.policy import Stepped, checked_policy
from langchain_tokenopt.context.summaries import summarized_by
from langchain_tokenopt.context.view import STAGE, ContextView
from langchain_tokenopt.context.viewer import Viewer
from langchain_tokenopt.context.window import SURELY, check_size, in_tokens, window_of
from langchain_tokenopt.core.argument_checks import (
    check_amount,
    check_fraction,
    check_name,
    check_whole,
    takes_names,
)
from langchain_tokenopt.core.argument_checks import shown as shown_value
from langchain_tokenopt.core.attribution import Attribution, attribution_here
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.messages import messages_from
from langchain_tokenopt.core.recent import Recent
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify, with_ambient
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall

if TYPE_CHECKING:
    from langchain_tokenopt.counting.model_names import ModelLike
    from langchain_tokenopt.counting.request_tokens import MessagesLike

__all__ = ["ContextCompressor"]

_REMEMBERED: Final = 4_096
"""Conversations of which to remember that their originals are kept."""
_RENEWED: Final = 0.5
"""Share of their lifetime after which originals are kept anew, as long as marks stand for them."""


def _checked_model(model: ModelLike | None) -> ModelLike | None:
    if model is not None and not isinstance(model, str | Runnable):
        raise TypeError(f"model is the name of a model, or a model; got {shown_value(model)}.")
    return model


class ContextCompressor(Runnable[Any, Any]):
    """Send less of a long conversation where that lowers the bill, or where it must be shorter.

    Old tool results are reduced to what the question needs, or to one line, in steps. A step is
    taken once it pays: providers charge a prompt's known beginning at a tenth to a half, and every
    change makes what stands behind it unknown. It may cost what earlier steps have saved, and no
    more: at no call has a conversation been dearer than as it came (but for *max_extra_cost*).
    Where the request is longer than *trigger*, and tool results alone do not help, the oldest turns
    are set aside with one note in their place: the sentences of theirs that tell what stands
    nowhere else, as many as there is room for. Between steps the beginning stays the same bytes.

    System messages, the task (the user's first message), the user's last one, unanswered calls and
    the last *keep_last* groups stay as they are. Calls and their results are shown together or not
    at all. The conversation itself is never changed: what comes out is a view, with the same
    messages, ids and order, worked out from the conversation alone.

    What was set aside is marked. Through ``optimize`` the mark has a handle, and the model gets a
    tool to fetch the original back; its calls are answered inside. Elsewhere give your agent
    :func:`expand_tool`.

    As a stage (``optimize(model, ContextCompressor())``), a runnable over message lists, prompt
    values and state dicts, a ``pre_model_hook``, and ``SummarizationMiddleware(summarizer=...)``.

    Args:
        max_tokens: What a request may have at most, tools and system messages included: tokens, or
            a share of the model's window (``0.8``). By default the window, if the model says one.
        keep: Share of *trigger* to which a request is brought down that exceeds it; by default 0.6,
            and all of it where the provider keeps nothing that a change could make dear.
        trigger: From where on a request is brought down, as *max_tokens*, and by default the same.
        keep_last: Groups at the end that stay: tool calls with their results, and messages.
        max_extra_cost: What a conversation may at most cost more than as it came, at any of its
            calls, as a share of that: 0 is never dearer, ``0.05`` takes steps that pay later.
        price_profile: ``"auto"`` (of the model that is called), ``"anthropic"``, ``"openai"``,
            ``"gemini"``, ``"none"``, or a :class:`PriceProfile`.
        summarizer: A chat model, a runnable or a function that makes a text of messages, for what
            stands in the place of turns that are set aside. What a model costs for it counts. Where
            it fails, or takes longer than 30 seconds, their own sentences stand there.
        store: Keeps originals for :func:`expand_tool`; by default memory.
        policy: Decides in place of the rules above, such as ``SlidingWindow()``.
        model: Whose tokens to count, as a runnable; as a stage it is the one that is called.
        key: The key of the messages, where a state comes in.
        sinks: Told of each saving.

    Raises:
        ValueError: A size, a fraction or a profile is none.
        TypeError: A summarizer, store, policy, model, key or sink is none.
        BudgetInfeasibleError: When called as a stage, where what must be kept does not fit into the
            model's window. A *max_tokens* that cannot be kept is no error:
            :attr:`ContextView.is_feasible` says so.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
        >>> call = {"name": "search", "args": {"q": "flights"}, "id": "1"}
        >>> again = {**call, "id": "2"}
        >>> talk = [
        ...     HumanMessage("Find me a flight to Rome."),
        ...     AIMessage("", tool_calls=[call]), ToolMessage("AZ 611 " * 300, tool_call_id="1"),
        ...     AIMessage("", tool_calls=[again]), ToolMessage("AZ 609", tool_call_id="2"),
        ... ]
        >>> view = ContextCompressor(price_profile="none").invoke(talk)
        >>> len(view[2].content) < 100, view[4] is talk[4]
        (True, True)
    """

    phase = Phase.CONTEXT

    @takes_names
    def __init__(
        self,
        max_tokens: float | None = None,
        *,
        keep: float | None = None,
        trigger: float | None = None,
        keep_last: int = 1,
        max_extra_cost: float = 0.0,
        price_profile: str | PriceProfile = "auto",
        summarizer: Any = None,
        store: ContextStore | None = None,
        policy: ContextPolicy | None = None,
        model: ModelLike | None = None,
        key: str = "messages",
        sinks: Sequence[UsageSink] = (),
    ) -> None:
        check_size("max_tokens", max_tokens)
        check_size("trigger", trigger)
        if store is not None and not isinstance(store, ContextStore):
            raise TypeError(f"store is a ContextStore(path); got {shown_value(store)}.")
        self.max_tokens = max_tokens
        self.keep = None if keep is None else check_fraction("keep", keep)
        self.trigger = trigger
        self.keep_last = check_whole("keep_last", keep_last, least=0)
        check_amount("max_extra_cost", max_extra_cost)
        self.max_extra_cost = max_extra_cost
        self.price_profile = price_profile
        self.model = _checked_model(model)
        self.key = check_name("key", key)
        self.sinks = checked_sinks(sinks)
        self.store = store
        self._profile = profile_named(price_profile)
        self._summaries = None if summarizer is None else summarized_by(summarizer)
        self.policy = Stepped(self._summaries) if policy is None else checked_policy(policy)
        self._viewer = Viewer(
            self.policy,
            max_tokens,
            trigger,
            self.keep,
            self.keep_last,
            max_extra_cost,
            self._keep_originals,
        )
        self._kept = Recent[float](_REMEMBERED)
        self._has_tool = False
        self._window: int | None = None

    @property
    def originals(self) -> ContextStore:
        """Where originals are kept; who asks for it answers handles."""
        self._has_tool = True
        return self.originals_kept

    # The view

    def view(
        self,
        messages: MessagesLike,
        *,
        model: ModelLike | None = None,
        beside: int = 0,
        user: str | None = None,
        thread: str | None = None,
    ) -> ContextView:
        """Return what of a conversation would be sent, and what that does.

        Args:
            messages: The conversation so far, in any form in which models take it.
            model: Whose tokens to count, and whose window and prices hold.
            beside: Tokens of the request that are no messages, such as tools.
            user: Whose conversation it is, for originals that are kept.
            thread: Which of the user's it is.

        Raises:
            TypeError: *messages* are no conversation, or *model* is none.
            ValueError: *beside* is no number of tokens.

        Example:
            >>> from langchain_core.messages import HumanMessage
            >>> ContextCompressor(100).view([HumanMessage("Hello")]).tokens_after
            8
        """
        made_by = Attribution(user=user, thread_id=thread)
        read = _checked_model(model) or self.model or DEFAULT_MODEL
        beside = check_whole("beside", beside, least=0)
        return self._plain_view(messages_from(messages), read, beside, made_by)

    def _plain_view(
        self, messages: Sequence[BaseMessage], model: ModelLike, beside: int, made_by: Attribution
    ) -> ContextView:
        """Return the view for a model that is not called here."""
        name = model_name_of(model)
        price = self._profile or profile_by_name(name)
        mark = Mark(NAME if self._has_tool else None)
        terms = self._viewer.terms(price, window_of(model), mark, beside)
        return self._viewer.view(messages, name, terms, made_by)

    def _keep_originals(
        self, conversation: Conversation, state: State, made_by: Attribution
    ) -> None:
        if not self._has_tool and self.store is None:
            return
        key, now = (made_by.user, made_by.thread_id, frozenset(state.handles)), time.monotonic()
        kept_at = self._kept.get(key)
        lifetime = self.originals_kept.lifetime.total_seconds()
        if kept_at is not None and now - kept_at < _RENEWED * lifetime:
            return
        self._kept.put(key, now)
        texts = {
            handle: conversation.original(indexes, NAME)
            for handle, indexes in state.handles.items()
        }
        self.originals_kept.put(texts, user=made_by.user, thread=made_by.thread_id)

    @property
    def own_limit(self) -> int | None:
        """Tokens that a request may have, as far as that is known without one."""
        window = window_of(self.model) or self._window
        sizes = (in_tokens(self.max_tokens, window), window)
        return min((size for size in sizes if size is not None), default=None)

    @cached_property
    def originals_kept(self) -> ContextStore:
        """The store, without a promise that somebody answers handles."""
        return self.store or ContextStore()

    # Runnable

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the view of a list of messages, a prompt value, or the messages of a state.

        Called by ``SummarizationMiddleware`` as its summarizer, it returns a digest of the messages
        as a text: a quarter of their tokens, 1,000 to 4,000, and *max_tokens* at most. What is no
        conversation is returned as it is.
        """
        return self._call_with_config(self._shorten, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As :meth:`invoke`, in a thread: a long conversation takes some milliseconds."""
        return await self._acall_with_config(self._ashorten, input, config, **kwargs)

    async def _ashorten(self, content: Any, run_manager: Any, config: RunnableConfig) -> Any:
        return await run_in_executor(None, self._shorten, content, run_manager, config)

    def _shorten(self, content: Any, run_manager: Any, config: RunnableConfig) -> Any:
        metadata = {**config.get("configurable", {}), **(config.get("metadata") or {})}
        made_by = attribution_here(metadata)
        if metadata.get("lc_source") == "summarization" and isinstance(content, list):
            most = self.max_tokens if isinstance(self.max_tokens, int) else None
            return digest(content, self._count, most)
        if isinstance(content, Mapping):
            if self.key not in content:
                return content
            return {**content, self.key: self._seen(content[self.key], made_by)}
        if isinstance(content, PromptValue) and not isinstance(content, str):
            messages = content.to_messages()
            view = self._seen(messages, made_by)
            return content if view is messages else ChatPromptValue(messages=view)
        if isinstance(content, Sequence) and not isinstance(content, str):
            return self._seen(content, made_by)
        return content

    def _seen(self, messages: Any, made_by: Attribution) -> Any:
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            return messages
        try:
            given = messages_from(messages)
        except TypeError:  # no conversation
            return messages
        view = self._plain_view(given, self.model or DEFAULT_MODEL, 0, made_by)
        if view.messages is given:
            return messages
        saving = view.saving(agent=made_by.agent, at=datetime.now(UTC))
        notify(with_ambient(self.sinks), saving)
        return view.messages

    def _count(self, text: str) -> int:
        name = model_name_of(self.model or DEFAULT_MODEL)
        return steady_counter_of_name(name).count(text).tokens

    def pre_model_hook(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the view as ``llm_input_messages``, for ``pre_model_hook=`` of agents.

        Example:
            >>> from langchain_core.messages import HumanMessage
            >>> talk = [HumanMessage("Hello")]
            >>> ContextCompressor().pre_model_hook({"messages": talk})["llm_input_messages"] == talk
            True
        """
        return {"llm_input_messages": self.invoke(list(state[self.key]))}

    # Stage

    @property
    def blocking(self) -> bool:
        """True where a summarizer may be asked, or originals are written to a file."""
        return self._summaries is not None or self.store is not None

    @property
    def fingerprint(self) -> str:
        """Every setting that changes what the model is asked."""
        settings = (
            self.max_tokens,
            self.keep,
            self.trigger,
            self.keep_last,
            self.max_extra_cost,
            str(self.price_profile),
            self.policy.fingerprint,
        )
        return f"{STAGE}{settings!r}"

    def open(self, request: ModelRequest) -> StageCall | None:
        """Show the model its view of the conversation.

        Raises:
            BudgetInfeasibleError: What must be kept does not fit into the model's window.
        """
        facts, window = request.facts, window_of(request.model)
        self._window = window
        beside = facts.tool_tokens.tokens + facts.schema_tokens.tokens
        tool = own_tool(request)
        terms = self._viewer.terms(
            self._profile or profile_of(request),
            window,
            Mark(None if tool is None else tool.name),
            beside,
            0 if tool is None else tool.tokens,
        )
        made_by = facts.attribution
        asked_before = 0 if self._summaries is None else self._summaries.spent_tokens
        view = self._viewer.view(request.messages, facts.model_name, terms, made_by)
        asked = 0 if self._summaries is None else self._summaries.spent_tokens - asked_before
        if window is not None and not request.observe:
            _refuse_too_long(view, window, is_exact=facts.message_tokens.exact)
        answers = tool is not None and tool.tools is not None and view.has_handles
        if view.messages is request.messages and not answers:
            return None
        made = request.override(messages=view.messages)
        if answers and tool is not None:
            made = made.override(kwargs={**request.kwargs, "tools": tool.tools})
        request.run.stages.append(STAGE)
        if request.observe or not answers or tool is None:
            self._record(request, view, asked)
            return StageCall(made)
        return self._answering(request, made, tool, view, asked)

    def _answering(
        self,
        request: ModelRequest,
        made: ModelRequest,
        tool: OwnTool,
        view: ContextView,
        asked: int,
    ) -> StageCall:
        made_by = request.facts.attribution

        def original(handle: str) -> str | None:
            found = view.original(handle, tool=tool.name)
            if found is None and self.store is not None:
                found = self.store.get(handle, user=made_by.user, thread=made_by.thread_id)
            return found

        def done(spent: int) -> None:
            self._record(request, view, asked + spent)

        return ExpandCall(made, tool, request.kwargs, window_of(request.model), original, done)

    def _record(self, request: ModelRequest, view: ContextView, spent: int) -> None:
        facts = request.facts
        rates = default_rate_card().rates(facts.billed_name, facts.billed_by)
        saving = view.saving(
            rate=None if rates is None else rates.input,
            spent_tokens=spent,
            run_id=request.run.run_id,
            agent=facts.attribution.agent,
            model=facts.billed_name,
            observed=request.observe,
        )
        request.run.savings.append(saving)
        notify(self.sinks, saving)


def _refuse_too_long(view: ContextView, window: int, *, is_exact: bool) -> None:
    if view.tokens_after > window * (1.0 if is_exact else SURELY):
        raise BudgetInfeasibleError(
            required_tokens=view.tokens_after,
            max_tokens=window,
            remedy="That is the model's window: start a new conversation, shorten the task or the "
            "last message, bind fewer tools, or call a model with a larger window.",
        )
