"""Mistakes that type checkers must report, each at its line: those that end in ``# wrong``."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langgraph.graph import MessagesState, StateGraph

from langchain_tokenopt import (
    AgentBudget,
    BudgetAlert,
    BudgetLimit,
    BudgetPlan,
    Ledger,
    PromptCompressor,
    SemanticCache,
    TokenUsageCallbackHandler,
    ToolLimits,
    ToolSelector,
    WordLimit,
    budget_graph,
    budgeted,
    format_usd,
    optimize,
    stages_of,
    token_scope,
    track_usage,
)


def mistakes(model: BaseChatModel, graph: StateGraph[MessagesState], ledger: Ledger) -> None:
    BudgetPlan(total_token=5)  # wrong
    BudgetPlan(total_tokens="lots")  # wrong
    BudgetPlan(4_000)  # wrong
    BudgetPlan(total_usd=5)  # wrong
    BudgetPlan(total_tokens=9, agents={"news": {"token": 5}})  # wrong
    BudgetPlan(total_tokens=9, agents={"news": {"words": "60"}})  # wrong
    BudgetPlan(total_tokens=9, agents=["news"])  # wrong
    BudgetPlan(total_tokens=9, window="fortnight")  # wrong
    BudgetPlan(total_tokens=9, on_exceed="stop")  # wrong
    BudgetPlan(total_tokens=9, within=[{"total_euro": 5}])  # wrong
    AgentBudget(token=5)  # wrong
    BudgetLimit(total_usd="5")  # wrong
    plan = BudgetPlan(total_tokens=9)
    plan.total = 5  # wrong
    plan.run(alert=5)  # wrong
    plan.run(on_alert=print)  # wrong
    plan.run(on_store_error="ignore")  # wrong
    BudgetAlert(thresholds=["80 %"])  # wrong
    optimize(model, WordLimit)  # wrong
    optimize(model, [WordLimit(60)])  # wrong
    optimize(WordLimit(60), model)  # wrong
    optimize(model, 60)  # wrong
    optimize(model, level="most")  # wrong
    optimize(model, cache=SemanticCache())  # wrong
    optimize(model, plan.run())  # wrong
    stages_of("balance")  # wrong
    WordLimit("60")  # wrong
    WordLimit(60, on_exceed="cut")  # wrong
    WordLimit(words=60)  # wrong
    PromptCompressor("300")  # wrong
    PromptCompressor(300, level="most")  # wrong
    SemanticCache(embeddings="openai")  # wrong
    SemanticCache(threshold=0.9)  # wrong
    SemanticCache(eviction="lfru")  # wrong
    ToolSelector(max_tools="5")  # wrong
    ToolLimits(max_call=5)  # wrong
    TokenUsageCallbackHandler(sinks=ledger)  # wrong
    TokenUsageCallbackHandler(sinks=[print])  # wrong
    track_usage(sinks=["tokenopt.db"])  # wrong
    token_scope(user=["ada"])  # wrong
    token_scope(plan=9_000)  # wrong
    ledger.totals(user=["ada"])  # wrong
    ledger.totals(usr="ada")  # wrong
    ledger.totals(since=7.5)  # wrong
    ledger.by("thread")  # wrong
    ledger.by(["user", "agent"])  # wrong
    budget_graph(graph, 9_000)  # wrong
    budget_graph(plan, plan)  # wrong
    budgeted(print, 9_000)  # wrong
    format_usd("5")  # wrong
    print(ledger.totals().cost)  # wrong
