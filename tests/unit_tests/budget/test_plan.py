"""Plans: from Python, TOML and JSON, and what is wrong with them."""

from __future__ import annotations

import json

import pytest

from langchain_tokenopt.budget import AgentBudget, BudgetPlan, TokenBudget
from langchain_tokenopt.budget.plan import EXAMPLE, desk_plan
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.examples.trading_desk import AGENTS, build_desk, sample_documents
from langchain_tokenopt.testing import ExtractiveChatModel

VALUES = {
    "total_tokens": 1_000,
    "agents": {"news": {"tokens": 300, "words": 100}, "judge": {"floor": 200}},
    "buffer": 100,
}


def test_agents_may_be_dicts():
    """As they come from a file."""
    plan = BudgetPlan(**VALUES)

    assert AgentBudget(tokens=300, words=100) == plan.agents["news"]
    assert {"news": 300, "judge": 600} == plan.shares()


def test_defaults_are_those_of_the_documentation():
    """Degrade, softly from 80 % on, by priority."""
    plan = BudgetPlan(total_tokens=10)

    assert ("priority", 0.8, "degrade", None, 0) == (
        plan.strategy,
        plan.soft_limit,
        plan.on_exceed,
        plan.max_output_tokens_per_call,
        plan.buffer,
    )
    assert AgentBudget() == plan.limits_of("anybody")


def test_the_same_plan_from_every_source(tmp_path):
    """Python, TOML, JSON."""
    (tmp_path / "plan.json").write_text(json.dumps(VALUES))
    (tmp_path / "plan.toml").write_text(
        "total_tokens = 1_000\nbuffer = 100\n[agents]\n"
        "news = { tokens = 300, words = 100 }\njudge = { floor = 200 }\n"
    )
    plan = BudgetPlan(**VALUES)

    assert plan == BudgetPlan.from_file(tmp_path / "plan.json")
    assert plan == BudgetPlan.from_file(str(tmp_path / "plan.toml"))


def test_the_desk_is_shipped_with_what_is_proposed_for_it():
    """40,000 tokens; the eleven agents with the words that their prompts ask for, rounded."""
    plan = desk_plan()
    desk = build_desk(ExtractiveChatModel(), sample_documents())
    words = {name: {"words": agent.max_words} for name, agent in AGENTS.items()}
    proposed = BudgetPlan.for_graph(desk, total_tokens=plan.total_tokens, agents=words)

    assert set(AGENTS) == set(plan.agents)
    assert proposed.buffer == plan.buffer
    for name, limits in proposed.agents.items():
        own = plan.agents[name]
        assert (limits.words, limits.priority) == (own.words, own.priority)
        assert limits.tokens == pytest.approx(own.tokens, abs=60)
        assert limits.floor == pytest.approx(own.floor, abs=60)
    assert plan.explain(desk).endswith("Who may starve: nobody, as far as the graph shows.")
    assert EXAMPLE.is_file()


def test_a_plan_fills_an_account():
    """Claims are what an account asks for; the buffer is its pool."""
    plan = desk_plan()
    budget = TokenBudget(plan.total_tokens)

    assert plan.shares() == budget.allocate(plan.claims(), plan.strategy, buffer=plan.buffer)
    assert plan.buffer == budget.report().pool_tokens


def test_shares_that_exceed_the_total_are_refused():
    """At once, with both numbers, from every source."""
    values = {"total_tokens": 1_000, "agents": {"a": {"tokens": 900}, "b": {"floor": 200}}}
    for make in (
        lambda: BudgetPlan(**values),
        lambda: BudgetPlan(**json.loads(json.dumps(values))),
    ):
        with pytest.raises(BudgetInfeasibleError, match=r"need 1,100 tokens but only 1,000"):
            make()
    with pytest.raises(ValueError, match=r"need 1,100 tokens but only 1,000"):
        BudgetPlan.model_validate(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_tokens": 0}, "above 0, got 0"),
        ({"totl_tokens": 5}, "totl_tokens"),
        ({"agents": {"news": {"tokn": 5}}}, "tokn"),
        ({"agents": {"news": {"priority": 0}}}, "greater than 0"),
        ({"agents": {"news": {"floor": 20, "cap": 10}}}, "floor of 20 .* cap of 10"),
        ({"strategy": "fair"}, "no strategy is named 'fair'"),
        ({"soft_limit": 1.5}, "less than or equal to 1"),
        ({"on_exceed": "explode"}, "'degrade' or 'raise'"),
        ({"buffer": 701}, r"need 1,201 tokens but only 1,000"),
    ],
    ids=str,
)
def test_what_a_plan_cannot_say_is_refused(change, message):
    """Named, before a token is spent."""
    with pytest.raises(ValueError, match=message):
        BudgetPlan(**(VALUES | change))


def test_unknown_keys_of_a_file_are_named_with_the_known(tmp_path):
    """And where they stand."""
    path = tmp_path / "plan.toml"
    path.write_text("total_tokens = 5\n[agents.news]\ntokn = 3\nword = 5\n")

    with pytest.raises(ValueError, match=r"toml: agents\.news\.tokn: unknown key; known are cap"):
        BudgetPlan.from_file(path)
    path.write_text("totl = 5\n")
    with pytest.raises(ValueError, match="totl: unknown key; known are agents, buffer"):
        BudgetPlan.from_file(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plan.yaml", "", "not '.yaml'"),
        ("plan.toml", "total_tokens =", "cannot be read as TOML"),
        ("plan.json", "{", "cannot be read as JSON"),
        ("plan.json", "[]", "a plan is an object"),
        ("plan.toml", b"\xff\xfe", "cannot be read as TOML: 'utf-8'"),
        ("plan.json", '{"total_tokens": 5, "agents": {"a": {}, "a": {}}}', "more than once: a"),
        ("plan.toml", "total_tokens = 5\n[agents.a]\n[agents.a]\n", "twice"),
        ("plan.toml", "total_tokens = 5\nagents = 3", "agents: .*valid dictionary, got 3"),
        ("plan.toml", "total_tokens = 5\nagents.a = 3", r"agents\.a: .*, got 3"),
        ("plan.toml", "total_tokens = 0", "total_tokens: must be above 0, got 0"),
        ("plan.toml", "soft_limit = 0.5", "total_tokens: Field required"),
        (
            "plan.toml",
            "total_tokens = 5\nsoft_limit = 2",
            r"soft_limit: .* equal to 1, got 2",
        ),
        (
            "plan.json",
            '{"total_tokens": 1000, "agents": {"a": {"tokens": 600}, "b": {"floor": 601}}}',
            r"need 1,201 tokens but only 1,000 .*a 600, b 601",
        ),
    ],
)
def test_files_that_are_no_plans_are_refused(tmp_path, name, text, message):
    """The file is named."""
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ValueError, match=message) as told:
        BudgetPlan.from_file(tmp_path / name)
    assert name in str(told.value)


def test_an_agent_without_a_name_is_refused():
    """Nobody could be it."""
    with pytest.raises(ValueError, match="every agent needs a name"):
        BudgetPlan(total_tokens=5, agents={" ": {}})


def test_agents_that_the_graph_does_not_have_are_named():
    """With those that it has."""
    with pytest.raises(
        ValueError, match=r"names 'judge', which the graph does not have\. It has: news, tr"
    ):
        BudgetPlan(**VALUES).check_agents(["news", "trader"])


def test_a_plan_does_not_change():
    """It is shared by runs."""
    with pytest.raises(ValueError, match="frozen"):
        BudgetPlan(**VALUES).total_tokens = 5
