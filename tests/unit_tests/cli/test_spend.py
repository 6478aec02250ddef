"""Commands that read a ledger."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.period import parse_moment
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import GROUPINGS
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report import Facts, recommendations
from tests.support.ledger_records import START, desk_calls, record

pytestmark = pytest.mark.exhaustive

LISTS = {
    ("top",): "agent",
    ("top", "--by", "day"): "day",
    ("top", "--by", "user", "--by", "agent"): "user",
    ("daily",): "day",
    ("weekly",): "week",
    ("monthly",): "month",
    ("runs",): "run",
    ("effectiveness",): "optimizer",
}
_READERS = [
    "stats", "top", "daily", "weekly", "monthly", "runs", "report", "kpi", "effectiveness",
    "export",
]  # fmt: skip
SINCE = "2026-11-01"
CALLS = list(desk_calls(300, days=3))


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TOKENOPT_LEDGER", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    if hasattr(time, "tzset"):
        time.tzset()
    yield
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "desk.db"
    with Ledger(path) as ledger:
        for call in CALLS:
            ledger.record(call)
    return path


@pytest.fixture
def written(tmp_path):
    """Make a ledger of the given events."""

    def write(*events) -> Path:
        with Ledger(tmp_path / "made.db") as ledger:
            for event in events:
                ledger.record(event)
        return tmp_path / "made.db"

    return write


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def rows(*arguments: object):
    result = run(*arguments, "--json")
    assert 0 == result.exit_code, result.stderr
    return json.loads(result.stdout)


def failure(*arguments: object) -> str:
    """The one line that a failed command leaves."""
    result = run(*arguments)
    assert 1 == result.exit_code
    assert "" == result.stdout
    lines = result.stderr.splitlines()
    assert 1 == len(lines)
    assert lines[0].startswith("tokenopt: ")
    return lines[0]


@pytest.mark.parametrize(("command", "key"), LISTS.items())
def test_lists_are_lists_of_rows_with_their_key(desk, command, key):
    """--json prints a list; every row begins with what it stands for."""
    found = rows(*command, "--ledger", desk, "--since", SINCE)

    assert found
    assert {key} == {next(iter(row)) for row in found}


@pytest.mark.parametrize("dimension", ["agent", "day", "model", "user"])
def test_rows_add_up_to_the_records(desk, dimension):
    """What the command says is what was recorded."""
    found = rows("top", "--by", dimension, "-n", 99, "--ledger", desk)

    billed = [call for call in CALLS if not call.cached]
    assert len(CALLS) == sum(row["calls"] for row in found)
    assert sum(c.usage.input_tokens for c in billed) == sum(row["input_tokens"] for row in found)
    assert sum(c.cost_nano_usd for c in billed) == sum(
        Decimal(row["cost_usd"]) * 10**9 for row in found
    )


def test_stats_is_one_object(desk):
    """The totals of a period, with how long calls took."""
    found = rows("stats", "--ledger", desk, "--since", "2026-11-03", "--until", "2026-11-03")
    day = [call for call in CALLS if call.started_at.date().isoformat() == "2026-11-03"]

    assert len(day) == found["calls"]
    assert found["duration_p50_seconds"] > 0


def test_days_are_in_order(desk):
    """Oldest first, one row a day; of too many, the latest."""
    days = ["2026-11-02", "2026-11-03", "2026-11-04"]

    assert days == [row["day"] for row in rows("top", "--by", "day", "--ledger", desk)]
    assert days[1:] == [row["day"] for row in rows("top", "--by", "day", "-n", 2, "--ledger", desk)]
    assert 72 >= len(rows("top", "--by", "hour", "--ledger", desk)) > 10


def test_agents_come_by_cost(desk):
    """The most expensive first."""
    costs = [Decimal(row["cost_usd"]) for row in rows("top", "--ledger", desk)]

    assert sorted(costs, reverse=True) == costs


@pytest.mark.parametrize("dimension", GROUPINGS)
def test_top_groups_by_anything(desk, dimension):
    """Every dimension of the ledger can be asked for."""
    found = rows("top", "-n", 2, "--by", dimension, "--ledger", desk)

    assert 1 <= len(found) <= 2
    assert all(dimension in row for row in found)


def test_the_table_has_the_rest_and_the_total(desk):
    """What is not shown is summed up, so that the total is the total."""
    lines = run("top", "-n", 2, "--ledger", desk).stdout.splitlines()

    assert "8 others" in lines[-2]
    assert lines[-1].split()[:2] == ["total", "300"]


def test_tables_are_not_cut_in_a_pipe(desk):
    """No cell ends in an ellipsis."""
    for command in ("top", "runs", "stats"):
        assert "…" not in run(command, "--ledger", desk).stdout


def test_figures_are_whole_in_a_narrow_terminal(written, monkeypatch):
    """Where there is too little room a name is shortened, and no figure."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "66")
    name = "the_agent_with_the_longest_name_of_all_the_agents_there_are"
    usage = Usage(1_234_567, 7_654_321)
    path = written(record(attribution=Attribution(name), usage=usage))
    lines = [line.rstrip() for line in run("top", "--ledger", path).stdout.splitlines()]

    for figure in ("1,234,567", "7,654,321", "100.0%", "the_a"):
        assert any(figure in line for line in lines)
    assert max(len(re.sub("\x1b[^m]*m", "", line)) for line in lines) <= 66


def test_runs_are_the_latest(desk):
    """Newest first."""
    latest = list(dict.fromkeys(call.run for call in reversed(CALLS)))[:3]

    assert latest == [row["run"] for row in rows("runs", "-n", 3, "--ledger", desk)]


def test_runs_say_who_ran_and_for_whom(desk):
    """A run is known by more than its id."""
    found = rows("runs", "-n", 1, "--ledger", desk)[0]
    calls = [call for call in CALLS if call.run == found["run"]]

    assert list(dict.fromkeys(call.agent for call in calls)) == found["agents"]
    assert calls[0].attribution.user == found["user"]


def test_a_run_is_a_tree_of_its_calls_in_order(desk):
    """Nodes above, calls below; the beginning of an id is enough."""
    whole = CALLS[0].run
    calls = [call for call in CALLS if call.run == whole]
    found = rows("run", whole[:15], "--ledger", desk)
    stdout = run("run", whole, "--ledger", desk).stdout

    assert [str(call.run_id) for call in calls] == [row["run_id"] for row in found]
    assert found[0]["path"][0] == calls[0].agent
    assert stdout.count(f"    {calls[0].model}") >= 1
    assert stdout.splitlines()[-1].startswith("total")


@pytest.mark.parametrize("wanted", ["zzz", "", "%", "0" * 40])
def test_no_such_run_is_one_line(desk, wanted):
    """It says how to find one."""
    line = failure("run", wanted, "--ledger", desk)
    assert "tokenopt runs" in line or "begins several runs" in line


def test_a_call_of_its_own_and_a_named_run_are_runs(written):
    """Ids that are no UUIDs are found whole, calls outside any run by their own."""
    own = record()
    path = written(replace(own, run=str(own.run_id)), record(run="nightly job"))

    assert [1] == [len(rows("run", str(own.run_id)[:20], "--ledger", path))]
    assert [1] == [len(rows("run", "nightly job", "--ledger", path))]


@pytest.mark.parametrize("command", [c for c in _READERS if c != "export"])
@pytest.mark.parametrize("name", ["user", "agent", "model", "tag"])
def test_every_command_filters(written, command, name):
    """One place for all: what is asked for, and nothing of anybody else's."""
    saving = Saving(stage="Cut", tokens_before=9, tokens_after=5)
    made_by = Attribution("news", user="ada", tag="checkout")
    path = written(
        record(attribution=made_by, model="small", run="r", usage=Usage(7, 3), savings=(saving,)),
        record(attribution=Attribution("other"), model="large", usage=Usage(83_519, 1)),
    )
    value = {"agent": "news", "user": "ada", "tag": "checkout", "model": "small"}[name]
    asked = [command, f"--{name}", value, "--since", SINCE, "--ledger", path]
    stdout = run(*asked, "--json").stdout

    assert json.loads(stdout)
    assert "83519" not in stdout
    assert "83,519" not in run(*asked).stdout
    assert f"with {name} 'nobody'" in failure(command, f"--{name}", "nobody", "--ledger", path)


@pytest.mark.parametrize("command", _READERS)
def test_an_empty_answer_for_machines_is_an_answer(written, command):
    """Scripts want a list, and exit code 0."""
    result = run(command, "--ledger", written(), "--json")

    assert 0 == result.exit_code
    found = json.loads(result.stdout)
    assert [] == found or isinstance(found, dict) or {0} == {row["n"] for row in found}


def test_money_and_tokens_have_a_share_each(written):
    """Half of the tokens may be a tenth of the cost."""
    path = written(
        record(attribution=Attribution("a"), usage=Usage(50, 0), cost_nano_usd=900),
        record(attribution=Attribution("b"), usage=Usage(50, 0), cost_nano_usd=100),
    )
    found = {row["agent"]: row for row in rows("top", "--ledger", path)}
    line = run("top", "--ledger", path).stdout.splitlines()[2]

    assert (0.5, 0.1) == (found["b"]["tokens_share"], found["b"]["cost_share"])
    assert "50.0%" in line
    assert "10.0%" in line


def test_live_shows_calls_as_they_end(tmp_path):
    """What is recorded while it looks, each once, with the running sum."""
    path = tmp_path / "live.db"
    with Ledger(path) as ledger:
        ledger.record(record())
        ledger.flush()
        timer = threading.Timer(0.3, lambda: [ledger.record(record()) for _ in range(3)])
        timer.start()
        result = run("live", "--every", 0.1, "--seconds", 1.2, "--ledger", path)
        timer.join()
    lines = result.stdout.splitlines()

    assert lines[0].startswith("last hour: 0 calls")
    assert 4 == len(lines)
    assert "$0.0135 since the start" in lines[3]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["top"], ["cache"], ["cache", "top"]])
def test_help_is_asked_for_in_two_ways(command, flag):
    """-h, as everywhere."""
    assert "Usage" in run(*command, flag).stdout


def test_shells_complete_commands():
    """Typer writes the script; the options are there."""
    assert "--install-completion" in run("--help").stdout


def test_effectiveness_shows_net_of_spending(written):
    """Saved, spent by itself, and what remains, also below zero."""
    path = written(
        record(
            savings=(Saving(stage="Costly", tokens_before=90, tokens_after=80, spent_tokens=30),)
        )
    )
    (row,) = rows("effectiveness", "--ledger", path, "--since", SINCE)

    assert ("Costly", 10, 30, -20, None) == (
        row["optimizer"],
        row["saved_tokens"],
        row["spent_tokens"],
        row["net_saved_tokens"],
        row["saved_usd"],
    )
    assert "-20" in run("effectiveness", "--ledger", path, "--since", SINCE).stdout


def test_effectiveness_without_optimizers_says_how_to_get_one(written):
    """An empty answer names the next step."""
    assert "no optimizer acted" in failure(
        "effectiveness", "--ledger", written(record()), "--since", SINCE
    )


def test_hours_look_back_from_now(written):
    """--hours counts back from now; --since overrides it."""
    now = datetime.now(UTC)
    path = written(
        record(started_at=now - timedelta(hours=2)), record(started_at=now - timedelta(hours=30))
    )

    assert 1 == rows("report", "--hours", 24, "--ledger", path)["totals"]["calls"]
    assert 2 == rows("report", "--hours", 48, "--ledger", path)["totals"]["calls"]
    assert 2 == rows("report", "--since", "2d", "--ledger", path)["totals"]["calls"]


def test_a_report_is_one_page(desk):
    """Totals, savings, consumers and recommendations, in this order."""
    stdout = run("report", "--ledger", desk, "--since", SINCE).stdout
    places = [
        stdout.index(title)
        for title in ("calls", "Savings by stage", "Agents", "Models", "Tools", "Recommendations")
    ]

    assert sorted(places) == places


def test_a_report_is_a_page_too(desk, tmp_path):
    """One file, that says what the command says; nothing on stdout."""
    result = run("report", "--ledger", desk, "--since", SINCE, "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")

    assert "" == result.stdout
    assert "r.html" in result.stderr
    assert "default-src 'none'" in page
    assert "300 calls" in page


def test_a_page_that_cannot_be_written_is_one_line(desk, tmp_path):
    """The file is named."""
    where = tmp_path / "none" / "r.html"
    assert "r.html" in failure("report", "--ledger", desk, "--since", SINCE, "--html", where)


def test_recommendations_name_their_saving_and_their_command(written):
    """What it would have saved, and how it is done."""
    events = [record(usage=Usage(9_000, 1_000), attribution=Attribution("news"))] * 1
    path = written(*(replace(events[0], run_id=record().run_id) for _ in range(20)))
    found = rows("report", "--ledger", path, "--since", SINCE)["recommendations"]

    assert all(line["command"] for line in found)
    assert any(Decimal(line["saved_usd"] or 0) > 0 for line in found)
    cost = 20 * Decimal("0.0045")
    assert all(Decimal(line["saved_usd"] or 0) < cost for line in found)
    assert "Expected saving: about $" in run("report", "--ledger", path, "--since", SINCE).stdout


def test_key_figures_are_sixteen_and_kept_on_demand(written):
    """With targets and the period before; --keep leaves them in the ledger."""
    path = written(record(), record(status="failed"))
    asked = ["kpi", "--since", "2026-11-02", "--until", "2026-11-02", "--ledger", path]
    found = {row["name"]: row for row in rows(*asked, "--keep")}

    assert 16 == len(found)
    assert ("bad", 0.5) == (found["waste"]["state"], found["waste"]["value"])
    assert 17 == len(run(*asked).stdout.splitlines())
    with Ledger(path, read_only=True) as ledger:
        kept = {each.kpi: each for each in ledger.snapshots()}
    assert (0.5, 24) == (kept["waste"].value, kept["waste"].span_hours)
    assert "goes with no filter" in failure(*asked, "--keep", "--user", "ada")


def _advice(path: Path) -> str:
    with Ledger(path, read_only=True) as ledger:
        facts = Facts.of(ledger, None, None)
    return "\n".join(f"{line.figure} {line.advice}" for line in recommendations(facts))


def _twenty(**changes):
    return [record(**changes) for _ in range(20)]


@pytest.mark.parametrize(
    ("events", "figure"),
    [
        ([record(model="llama", cost_nano_usd=None)], "1 of 1 calls have no known price (llama)."),
        (_twenty(source="estimated"), "The tokens of 20 calls (100%) had to be estimated."),
        (
            [*_twenty(), record(status="failed")],
            "5% of all tokens (1,200, $0.00450) went into 1 calls that failed",
        ),
        (
            [Saving(stage="Slow", tokens_before=9, tokens_after=8, spent_tokens=5)],
            "Slow spent 4 tokens more than it saved, over 1 uses.",
        ),
        (
            [Saving(stage="Shy", tokens_before=9, tokens_after=5, observed=True)],
            "Shy only watches and would have saved 4 tokens ($0.00).",
        ),
        (
            _twenty(usage=Usage(9_000, 1_000, 8_000), attribution=Attribution("news")),
            "news takes 100% of all tokens, and 90% of that is input.",
        ),
        (
            [
                call
                for agent in ("news", "market", "risk", "trader", "judge")
                for call in _twenty(usage=Usage(9_000, 100, 8_000), attribution=Attribution(agent))
            ],
            "judge, market and news take 60% of all tokens, and 99% of that is input.",
        ),
        (_twenty(usage=Usage(700, 700)), "default writes 700 tokens per answer."),
        (
            _twenty(usage=Usage(3_000, 500)),
            "default reads 3,000 tokens per call and the provider's prompt cache served 0% of them",
        ),
    ],
    ids=[
        "unpriced",
        "estimated",
        "failed",
        "costly stage",
        "watching stage",
        "long prompts",
        "several long prompts",
        "long answers",
        "uncached prefix",
    ],
)
def test_recommendations_stand_on_a_figure(written, events, figure):
    """Each is said when its figure is there."""
    assert figure in _advice(written(*events))


def test_good_order_gets_no_recommendation(desk):
    """Nothing is recommended for the sake of it."""
    assert "" == _advice(desk)


def test_prices_of_a_model():
    """Dollars per million tokens, as strings."""
    found = rows("prices", "gpt-4o", "--on", "2026-06-01")

    assert "2.5" == found["usd_per_million_tokens"]["input"]
    assert "2026-06-01" == found["on"]
    assert "2.5" in run("prices", "gpt-4o", "--on", "2026-06-01").stdout


def test_prices_of_an_unknown_model():
    """Unknown is not zero."""
    assert "no price is known for 'gpt-nope'" in failure("prices", "gpt-nope")


def test_a_bad_price_file_is_one_line(monkeypatch, tmp_path):
    """The line names the variable."""
    monkeypatch.setenv("TOKENOPT_PRICES", str(tmp_path / "missing.toml"))

    assert "TOKENOPT_PRICES cannot be used" in failure("prices", "gpt-4o")


def test_export_as_csv_is_every_call(desk):
    """One line per call, in order of time, with a heading."""
    found = list(csv.DictReader(io.StringIO(run("export", "--ledger", desk).stdout)))

    assert [str(call.run_id) for call in CALLS] == [row["run_id"] for row in found]
    assert [str(call.usage.input_tokens) for call in CALLS] == [
        row["input_tokens"] for row in found
    ]


@pytest.mark.parametrize("form", [["--format", "json"], ["--json"]])
def test_export_as_json_is_every_call(desk, form):
    """A list of flat objects; money is a string."""
    found = json.loads(run("export", "--ledger", desk, *form).stdout)

    assert [str(call.run_id) for call in CALLS] == [row["run_id"] for row in found]
    assert sum(call.saved_tokens for call in CALLS) == sum(row["saved_tokens"] for row in found)


@pytest.mark.parametrize("agent", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_exported_text_runs_in_no_spreadsheet(written, agent):
    """A name that is a formula arrives as text."""
    path = written(record(attribution=Attribution(agent)))
    (row,) = csv.DictReader(io.StringIO(run("export", "--ledger", path).stdout))

    assert "'" + agent == row["agent"]


def test_unpriced_calls_are_a_dash_and_a_note(written):
    """No price is not no cost."""
    path = written(record(model="llama", cost_nano_usd=None))
    result = run("top", "--ledger", path)

    assert "without 1 calls whose price is not known" in result.stderr
    assert " - " in result.stdout
    assert [None] == [row["cost_usd"] for row in rows("top", "--ledger", path)]


def test_the_ledger_comes_from_the_environment(desk, monkeypatch):
    """TOKENOPT_LEDGER is used where --ledger is not given."""
    monkeypatch.setenv("TOKENOPT_LEDGER", str(desk))

    assert len(CALLS) == rows("stats")["calls"]


def test_the_ledger_is_tokenopt_db_by_default(written, monkeypatch):
    """Without any setting the ledger here is read."""
    path = written(record())
    path.rename(path.with_name("tokenopt.db"))
    monkeypatch.chdir(path.parent)

    assert 1 == rows("stats")["calls"]


@pytest.mark.parametrize("command", _READERS)
def test_no_ledger_is_one_line(command, tmp_path):
    """It names the path, says how to make one, and makes none."""
    path = tmp_path / "none.db"

    assert f"no ledger at {path}" in failure(command, "--ledger", path)
    assert not path.exists()


@pytest.mark.parametrize("command", _READERS)
def test_an_empty_period_is_one_line(command, desk):
    """It says where there is something."""
    line = failure(command, "--ledger", desk, "--since", "2020-01-01", "--until", "2020-01-02")

    assert "it has calls from 2026-11-02 00:00 to 2026-11-04 23:45" in line


@pytest.mark.parametrize("command", _READERS)
def test_an_empty_ledger_is_one_line(command, written):
    """It says how to record into it."""
    assert "is empty. Record into it" in failure(command, "--ledger", written())


@pytest.mark.parametrize("command", _READERS)
@pytest.mark.parametrize(
    "moment", ["2026-02-30", "soon", "", "99999999999d", "2026-13-01T00:00", "-3d"]
)
def test_an_impossible_date_is_one_line(command, desk, moment):
    """It says how dates are written."""
    line = failure(command, "--ledger", desk, f"--since={moment}")

    assert f"{moment!r} is no date. Write 2026-11-20" in line


def test_a_period_the_wrong_way_round_is_one_line(desk):
    """Swapped dates are told, not answered."""
    line = failure("top", "--ledger", desk, "--since", "2026-11-04", "--until", "2026-11-02")

    assert "--since 2026-11-04 is not before --until 2026-11-02" in line


def test_a_file_that_is_no_ledger_is_one_line(tmp_path):
    """Neither a traceback nor an answer."""
    path = tmp_path / "notes.txt"
    path.write_text("notes\n" * 500)

    assert "is not a ledger but some other kind of file" in failure("top", "--ledger", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-20T00:00"),
        ("20261120", "2026-11-20T00:00"),
        ("2026-11-20T09:30", "2026-11-20T09:30"),
        ("2026-11-20 09:30", "2026-11-20T09:30"),
        ("2026-11-20T09:30+05:30", "2026-11-20T04:00"),
        ("today", "2026-11-21T00:00"),
        ("Yesterday", "2026-11-20T00:00"),
        ("24h", "2026-11-20T12:00"),
        ("2w", "2026-11-07T12:00"),
    ],
)
def test_moments_as_users_write_them(text, expected):
    """Dates, times, words and lengths of time."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    assert expected == parse_moment(text, now=now).astimezone(UTC).isoformat()[:16]


def test_an_end_includes_its_day():
    """--until 2026-11-20 means the end of that day."""
    end = parse_moment("2026-11-20", now=START, end=True)

    assert datetime(2026, 11, 21, tzinfo=UTC) == end


def test_no_moment_is_refused_with_examples():
    """The error is the instruction."""
    with pytest.raises(CommandError, match="Write 2026-11-20"):
        parse_moment("next week", now=START)


def test_doctor_finds_all_in_order(desk):
    """Four parts, each with its state."""
    found = {row["part"]: row for row in rows("doctor", "--ledger", desk)}

    assert ["tokenizer", "embedder", "prices", "ledger"] == list(found)
    assert "300 calls" in found["ledger"]["detail"]
    assert "ok" == found["ledger"]["state"] == found["prices"]["state"]


def test_doctor_says_how_to_make_a_ledger(tmp_path):
    """None yet is no failure."""
    result = run("doctor", "--ledger", tmp_path / "none.db")

    assert 0 == result.exit_code
    assert "Create one with Ledger(" in result.stderr


def test_doctor_says_how_to_get_a_tokenizer(desk, monkeypatch):
    """Without a vocabulary counts are estimates; the fix is a command."""
    from langchain_tokenopt.counting import tokens

    estimate = tokens.counter_for("claude-sonnet-4-5")
    monkeypatch.setattr(tokens, "counter_for", lambda model: estimate)
    result = run("doctor", "--ledger", desk)

    assert "pip install 'langchain-tokenopt[vocabularies]'" in result.stderr


def test_doctor_says_how_to_get_an_embedder(desk, monkeypatch):
    """Without torch there is no semantic cache; the fix is a command."""
    from langchain_tokenopt import embeddings

    monkeypatch.setattr(embeddings, "find_spec", lambda name: None)
    result = run("doctor", "--ledger", desk)

    assert "pip install 'langchain-tokenopt[local]'" in result.stderr


def test_doctor_finds_a_broken_price_file(desk, monkeypatch, tmp_path):
    """Broken is exit code 1."""
    monkeypatch.setenv("TOKENOPT_PRICES", str(tmp_path / "missing.toml"))
    result = run("doctor", "--ledger", desk, "--json")

    assert 1 == result.exit_code
    assert "broken" == json.loads(result.stdout)[2]["state"]


def test_doctor_finds_a_file_that_is_no_ledger(tmp_path):
    """Broken is exit code 1."""
    (tmp_path / "x.db").write_text("notes\n" * 500)

    assert 1 == run("doctor", "--ledger", tmp_path / "x.db").exit_code


def test_doctor_finds_sums_that_are_wrong(written):
    """The proof is part of the examination."""
    import sqlite3

    path = written(record())
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM call_hours")
    other.close()
    result = run("doctor", "--ledger", path)

    assert 1 == result.exit_code
    assert "rebuild()" in result.stderr


def test_the_demo_fills_a_ledger(tmp_path, monkeypatch):
    """Demo --ledger records what its two bills say."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "notes.txt").write_text("Orders rose by 12 %. We hold.")
    path = tmp_path / "demo.db"
    bill = json.loads(
        run("demo", "--input", tmp_path / "notes.txt", "--ledger", path, "--json").stdout
    )

    agents = {row["agent"]: row["total_tokens"] for row in rows("top", "-n", 99, "--ledger", path)}
    billed = Counter()
    for row in (*bill["rows"], *bill["with_budget"]["rows"]):
        billed[row["agent"]] += row["total_tokens"]
    assert dict(billed) == agents


def test_starting_a_command_imports_nothing_heavy():
    """--help needs neither SQLAlchemy nor LangChain's models."""
    heavy = "'sqlalchemy', 'torch', 'genai_prices', 'faiss', 'langgraph'"
    code = (
        "import sys; from langchain_tokenopt.cli import app; "
        f"sys.exit(', '.join({{{heavy}}} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.skipif(os.name == "nt", reason="no head")
def test_a_reader_that_leaves_is_no_error(desk):
    """Export | head ends quietly."""
    code = "from langchain_tokenopt.cli import main; main()"
    command = f"{sys.executable} -c '{code}' export --ledger {desk} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)

    assert done.stdout.startswith("run_id,started_at")
    assert "Traceback" not in done.stderr
