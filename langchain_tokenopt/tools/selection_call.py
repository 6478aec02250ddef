"""One call whose request shows some of its tools, and what comes back for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokenopt.core.records import OfferedTool, Saving, ToolChoice, UsageSink
from langchain_tokenopt.core.sinks import notify
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.tools.answered_call import AnsweredCall
from langchain_tokenopt.tools.find_more import CallFilter, answered, fits, queries_in
from langchain_tokenopt.tools.selection_history import mark
from langchain_tokenopt.tools.selection_tools import RequestTools

__all__ = ["STAGE", "ObservedSelection", "Selection", "SelectionCall"]

STAGE: Final = "ToolSelector"


class Search(Protocol):
    """Finds tools among those that were left out."""

    def __call__(self, query: str, hidden: Sequence[str], searches: int) -> Sequence[str]:
        """Return names, the more of them the more often it was called; some, if there are any."""
        ...


@dataclass(slots=True)
class Selection:
    """What one request shows of its tools, and how that grew while it was answered."""

    request: ModelRequest
    """As it came, with all tools."""
    tools: RequestTools
    fixed: Sequence[str]
    shown: list[str]
    more_name: str
    more: Any
    """The tool by which the model searches; ``None``: it cannot."""
    slimmed: bool = False
    exchanges: list[BaseMessage] = field(default_factory=list)
    """What the model has searched for and was told, which the application never sees."""
    searches: int = 0
    found: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def hidden(self) -> list[str]:
        """Names of the tools that are not shown."""
        there = {*self.fixed, *self.shown}
        return [name for name in self.tools.by_name if name not in there]

    def add(self, names: Iterable[str]) -> list[str]:
        """Show these, too, in the order in which the application has them; return what is new."""
        hidden, asked = self.hidden, {*names}
        new = [name for name in hidden if name in asked]
        self.shown += new
        return new

    def rewritten(self) -> ModelRequest:
        """Return the request as it goes on."""
        kwargs = self.tools.rewritten(
            self.request.kwargs,
            self.fixed,
            self.shown,
            self.more if self.hidden else None,
            slimmed=self.slimmed,
        )
        if not self.exchanges:
            return self.request.override(kwargs=kwargs)
        return self.request.override(
            kwargs=kwargs, messages=[*self.request.messages, *self.exchanges]
        )

    def record(self, called: Iterable[str], spent: int, sinks: Iterable[UsageSink]) -> None:
        """Publish what was shown and saved."""
        run, facts = self.request.run, self.request.facts
        there = [*self.fixed, *self.shown]
        offered = [self._offered(name) for name in there]
        before, sent = facts.tool_tokens.tokens, self.rewritten()
        after = sent.facts.tool_tokens.tokens + self._exchanged()
        run.savings.append(
            Saving(
                stage=STAGE,
                tokens_before=before,
                tokens_after=after,
                spent_tokens=spent,
                exact=False,
                observed=self.request.observe,
            )
        )
        run.tool_choice = ToolChoice(
            offered=tuple(offered),
            left_out=len(self.hidden),
            tokens_before=before,
            tokens_after=after,
            called=tuple(dict.fromkeys(called)),
            missed=tuple(self.missed),
            found=tuple(self.found),
            searches=self.searches,
            observed=self.request.observe,
            run_id=run.run_id,
            agent=facts.attribution.agent,
            model=facts.billed_name,
        )
        notify(sinks, run.savings[-1], run.tool_choice)

    def _exchanged(self) -> int:
        """Return how many tokens the searches and their results add to the request."""
        if not self.exchanges:
            return 0
        name = self.request.facts.model_name
        added, frame = (count_messages(each, model=name) for each in (self.exchanges, []))
        return added.tokens - frame.tokens

    def _offered(self, name: str) -> OfferedTool:
        cards = [self.tools.cards[at] for at in self.tools.by_name[name]]
        return OfferedTool(name, sum(card.tokens for card in cards if card is not None))


class SelectionCall(AnsweredCall):
    """Shows a part of the tools; answers the model's searches for others, and asks it again.

    Args:
        selection: What is shown.
        search: Finds more.
        sinks: Told what was shown and saved.
    """

    def __init__(self, selection: Selection, search: Search, sinks: Sequence[UsageSink]) -> None:
        self._selection = selection
        self._search = search
        self._sinks = sinks
        super().__init__(selection.rewritten(), streaming=selection.request.streaming)

    def new_filter(self) -> CallFilter:
        """Hold back searches, and calls of tools that the model was not shown."""
        chosen = self._selection
        return CallFilter(chosen.more_name, chosen.hidden, chosen.tools.by_name)

    def asks(self, message: AIMessage) -> bool:
        """Whether the model calls nothing that the application can be asked to do.

        A tool that it was not shown may be called all the same, if the arguments fit.
        """
        chosen = self._selection
        if queries_in(message, chosen.more_name):
            if not chosen.hidden:  # everything was shown, and it knows
                return False
            wanted = [call for call in message.tool_calls if call["name"] != chosen.more_name]
            return not any(map(self._can_be_called, wanted))
        hidden = {*chosen.hidden}
        wanted = [call for call in message.tool_calls if call["name"] in hidden]
        return bool(wanted) and not any(map(self._can_be_called, wanted))

    def _can_be_called(self, call: Any) -> bool:
        chosen, name = self._selection, call["name"]
        return any(fits(call["args"], chosen.tools.tools[at], name)
                   for at in chosen.tools.by_name.get(name, ()))  # fmt: skip

    def stood(self, message: AIMessage) -> None:
        """Show from now on what was called without being shown, and what was searched for."""
        chosen = self._selection
        chosen.missed += chosen.add(call["name"] for call in message.tool_calls)
        self._find(message)

    def _find(self, message: AIMessage) -> list[list[str]]:
        """Add what each of the model's searches finds, and return that."""
        chosen, found = self._selection, []
        for _, query in queries_in(message, chosen.more_name):
            chosen.searches += 1
            found.append(chosen.add(self._search(query, chosen.hidden, chosen.searches)))
            chosen.found += found[-1]
        return found

    def next_request(self, message: AIMessage) -> ModelRequest:
        """Show what was called and what was searched for."""
        chosen = self._selection
        chosen.missed += chosen.add(call["name"] for call in message.tool_calls)
        found = self._find(message)
        if found:
            chosen.exchanges += answered(message, chosen.more_name, found)
        return chosen.rewritten()

    def marked(self, message: BaseMessage) -> dict[str, Any]:
        """Tell in the answer what was shown."""
        return message.response_metadata | mark(self._selection.tools, self._selection.shown)

    def finished(self, called: Iterable[str]) -> None:
        """Record what was shown and saved."""
        if self._selection.request.run.sent is not None:
            self._selection.record(called, self.spent.total_tokens, self._sinks)


class ObservedSelection(StageCall):
    """Sees what would have been shown."""

    def __init__(self, selection: Selection, sinks: Sequence[UsageSink]) -> None:
        super().__init__(selection.request)
        self._selection = selection
        self._sinks = sinks

    def close(self, answer: Answer) -> Answer:
        """Record what would have been saved, and missed."""
        called = [call["name"] for call in answer.message.tool_calls]
        hidden = {*self._selection.hidden}
        self._selection.missed += [name for name in dict.fromkeys(called) if name in hidden]
        self._selection.record(called, 0, self._sinks)
        return answer
