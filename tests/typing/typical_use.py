"""What users write, typed: type checkers at their strictest find nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_tokenopt import (
    AgentBudget,
    BudgetAlert,
    BudgetEvent,
    BudgetExceededError,
    BudgetLimit,
    BudgetPlan,
    BudgetRun,
    BudgetRunReport,
    BudgetStoreError,
    CacheFileError,
    CallRecord,
    Case,
    Comparison,
    ContextCompressor,
    ContextStore,
    DocumentCompressor,
    EmbedderUnavailableError,
    Forecast,
    Ledger,
    LedgerError,
    LocalEmbeddings,
    ProgressiveLoader,
    PromptCompressor,
    RateCard,
    Saving,
    SemanticCache,
    Stage,
    TokenCount,
    TokenOptError,
    TokenScope,
    TokenUsageCallbackHandler,
    ToolLimits,
    ToolSelector,
    UsageForecaster,
    UsageSink,
    UsageTotals,
    WordLimit,
    budget_graph,
    budgeted,
    compare,
    count_messages,
    expand_tool,
    forecast_run,
    forecast_spend,
    format_usd,
    in_own_context,
    node_cache,
    optimize,
    optimize_text,
    stage_all,
    stages_of,
    token_scope,
    track_usage,
)


class Metrics:
    """A sink of one's own."""

    def __init__(self) -> None:
        self.cost = Decimal(0)

    def record(self, event: object) -> None:
        if isinstance(event, CallRecord):
            self.cost += event.cost_usd or 0


def every_stage() -> BaseChatModel:
    plan = BudgetPlan(
        total_tokens=40_000,
        total_usd=0.5,
        agents={"news": AgentBudget(tokens=3_000, words=250), "judge": {"floor": 2_000}},
        within=[BudgetLimit(total_usd=5, per="user", window="day"), {"total_tokens": 10**6}],
        buffer=1_000,
        on_exceed="degrade",
    )
    cache = SemanticCache("answers.db", embeddings=LocalEmbeddings(), ttl_seconds=3_600)
    words_only = SemanticCache(semantic=False)
    model = FakeListChatModel(responses=["Four."])
    staged: FakeListChatModel = optimize(
        model,
        cache,
        ToolSelector(max_tools=5),
        PromptCompressor(2_000),
        plan,
        WordLimit(60, on_exceed="trim"),
    )
    stages: list[Stage] = stages_of("balanced")
    optimize(model, *stages, words_only, level="balanced", observe=True)
    return staged


def a_chain(model: BaseChatModel) -> str:
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    chain = prompt | PromptCompressor(keep=0.5) | optimize(model, WordLimit(60)) | StrOutputParser()
    answer: str = chain.invoke({"question": "Why?"})
    short = PromptCompressor(300).compress("a long text")
    print(short.content, short.tokens_before - short.tokens_after)
    documents = DocumentCompressor(300).compress_documents([Document("a text")], "a question")
    print(documents[0].page_content, optimize_text("a text"))
    return answer


def a_graph(model: BaseChatModel, plan: BudgetPlan) -> None:
    staged = optimize(model, plan)

    def news(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [staged.invoke(state["messages"])]}

    async def judge(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await staged.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("news", budgeted(news, plan, "news"))
    graph.add_node("judge", budgeted(judge, plan))
    graph.add_edge(START, "news")
    graph.add_edge("news", "judge")
    graph.add_edge("judge", END)
    app = budget_graph(graph, plan).compile(cache=node_cache(SemanticCache(semantic=False)))
    with plan.run("thread-1", user="ada", path="budgets.db", alert=tell) as run:
        app.invoke({"messages": [HumanMessage("Why?")]})
    report: BudgetRunReport = run.report()
    print(report, report.account.spent_tokens, report.as_dict())


def tell(event: BudgetEvent) -> None:
    print(event.detail, event.as_dict()["agent"])


async def tell_later(event: BudgetEvent) -> None:
    tell(event)


def a_run(plan: BudgetPlan, sinks: list[UsageSink]) -> BudgetRun:
    alert = BudgetAlert(tell, tell_later, thresholds=[0.8])
    return plan.run(sinks=sinks, alert=alert, forecaster=UsageForecaster())


def what_was_spent(model: BaseChatModel) -> Decimal:
    with Ledger("tokenopt.db") as ledger:
        usage: BaseCallbackHandler = TokenUsageCallbackHandler([ledger, Metrics()], user="ada")
        model.invoke("Why?", {"callbacks": [usage]})
        with track_usage(sinks=[ledger], user="ada") as tracked:
            model.invoke("Why?")
        totals: UsageTotals = ledger.totals(since="7d", user="ada")
        by_user: dict[str, UsageTotals] = ledger.by("user", since=timedelta(days=7))
        by_both: dict[tuple[str, ...], UsageTotals] = ledger.by("user", "agent", model="gpt-4o")
        for call in ledger.calls(since="today", agent="news"):
            print(call.model, call.usage.total_tokens, call.attribution.user)
        print(by_user, by_both, format_usd(totals.cost_nano_usd), tracked.by("agent"))
        return totals.cost_usd


def scopes(model: BaseChatModel, plan: BudgetPlan) -> list[str]:
    with token_scope(user="ada", level="balanced", plan=plan, alert=tell) as scope:
        found: TokenScope = scope
        model.invoke("Why?")
    with stage_all(WordLimit(60)) as everything:
        model.invoke("Why?")
    return [*found.uncovered(), *everything.uncovered()]


@stage_all(WordLimit(60))
def decorated(question: str) -> str:
    return question.upper()


def errors(make: Callable[[], object]) -> str:
    try:
        make()
    except BudgetExceededError as error:
        return f"{error.needed_tokens:,} of {error.limit_tokens:,}"
    except (BudgetStoreError, CacheFileError, EmbedderUnavailableError, LedgerError) as error:
        return str(error)
    except TokenOptError as error:
        return str(error)
    return decorated("nothing happened")


def proofs(model: BaseChatModel) -> None:
    cases = [Case("What is 2 + 2?", reference="4"), "Who won?"]
    found: Comparison = compare(cases, model, optimize(model, WordLimit(9)), max_cases=10)
    counted: TokenCount = count_messages([AIMessage("Four.")], model="gpt-4o")
    rates = RateCard().rates("gpt-4o", "openai")
    price = None if rates is None else rates.usd_per_million()["input"]
    forecast: Forecast | None = UsageForecaster().forecast("news")
    limits = ToolLimits(max_calls=3, max_result_tokens_per_call=500)
    print(found.verdict, counted.tokens, counted.exact, price, forecast, limits)


def to_come(ledger: Ledger) -> tuple[int | None, float | None]:
    month = forecast_spend(ledger, "month", user="ada")
    run = forecast_run(ledger, spent={"news": 900}, tag="nightly").at_end
    return month.expected, None if run is None else run.p95


def savings(event: Saving) -> int:
    return event.saved_tokens


def fetching_back(model: BaseChatModel) -> list[BaseTool]:
    compressor = ContextCompressor(60_000, price_profile="anthropic", store=ContextStore())
    tools = [expand_tool(compressor), expand_tool(ProgressiveLoader(max_tokens=4_000))]
    view = compressor.view([HumanMessage("Hi")], model=model, user="ann", thread="t1")
    print(view.tokens_after, [row.importance.reason for row in view.explain()])
    return tools


def any_runnable() -> RunnableLambda[Any, Any]:
    plan = BudgetPlan.for_graph(StateGraph(MessagesState), total_tokens=40_000)
    plan.to_file("plan.toml")
    return budgeted(RunnableLambda(lambda given: given), BudgetPlan.from_file("plan.toml"))


def streamed(model: BaseChatModel, question: str) -> Iterator[str]:
    """A streaming response, with its function annotated as most are."""

    def parts() -> Iterator[str]:
        with token_scope(user="ann"):
            for chunk in model.stream(question):
                yield chunk.text

    return in_own_context(parts())
