"""The dashboard in a browser: every state, every control, every name."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.ledger import Ledger
from tests.support.dashboard_files import HOSTILE
from tests.support.ledger_records import record

pytestmark = pytest.mark.browser

SIZES = [(1280, "light"), (320, "dark")]


def asked(viewer) -> dict[str, str]:
    return {n: v[0] for n, v in parse_qs(urlsplit(viewer.page.url).query).items()}


# States


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("state", ["day", "hostile", "empty", "missing", "filtered", "alone"])
def test_every_state_is_whole_and_accessible(site, look, files, beside, state, width, scheme):
    """No error, nothing foreign, nothing wider than the window, nothing that axe objects to."""
    if state == "empty":
        Ledger(files / "empty.db").close()
    ledger = files / f"{ {'filtered': 'day', 'alone': 'day'}.get(state, state) }.db"
    path = "/?range=24h&agent=nobody" if state == "filtered" else "/?range=7d"
    served = site(ledger, **({} if state == "alone" else beside))
    viewer = look(served, path, width, scheme)
    for summary in viewer.page.locator("main summary").all():
        summary.click()

    assert 0 == viewer.overflow()
    assert [] == viewer.violations()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_run_is_a_timeline_that_everybody_can_read(site, look, files, width, scheme):
    """Opened from the list of runs; a run that is not there says so."""
    viewer = look(site(files / "day.db"), "/?range=7d&agent=bull", width, scheme)
    viewer.page.locator("#part-runs tbody a").first.click()
    viewer.page.wait_for_selector(".timeline")
    bars = viewer.page.locator(".timeline tbody svg")

    assert bars.count() == viewer.page.locator(".timeline tbody tr").count() > 1
    assert re.search(r": from .* on, ", bars.first.get_attribute("aria-label"))
    assert 0 == viewer.overflow()
    assert [] == viewer.violations()
    with viewer.page.expect_download() as loaded:
        viewer.page.locator("a.csv").click()
    assert "call,agent,node" in loaded.value.path().read_text()
    viewer.page.locator("#back").click()
    viewer.ready()
    assert {"range": "7d", "agent": "bull"}.items() <= asked(viewer).items()
    response = viewer.page.goto(viewer.base + "/run/none-such")
    assert 404 == response.status
    assert "No run begins so" in viewer.page.inner_text("main")
    viewer.wrong = [said for said in viewer.wrong if "404" not in said]


# Controls


def test_every_control_does_something_and_breaks_nothing(site, look, files, beside):
    """Each kind of link, button, field and summary of the page is clicked."""
    served = site(files / "day.db", **beside)
    viewer = look(served, "/?range=7d")
    kinds = viewer.page.evaluate(
        """() => {
          const seen = new Set();
          return [...document.querySelectorAll("a, button, input, summary")].flatMap((e, n) => {
            const part = e.closest("section, header, body");
            const kind = [part.id || part.tagName, e.tagName, e.className, e.name, e.value].join();
            const isShown = e.checkVisibility() && e.type !== "hidden" && e.tabIndex >= 0;
            return !isShown || seen.has(kind) ? [] : (seen.add(kind), [n]);
          });
        }"""
    )
    assert len(kinds) > 25
    for number in kinds:
        viewer.goto("/?range=7d")
        control = viewer.page.locator("a, button, input, summary").nth(number)
        if control.get_attribute("download") is not None:
            with viewer.page.expect_download():
                control.click()
        elif control.get_attribute("class") == "skip":  # there for the keyboard only
            control.press("Enter")
        else:
            control.click(force=True)
            viewer.page.wait_for_timeout(50)


def test_ranges_filters_and_dates_are_in_the_address(site, look, files):
    """And come back from it: loaded anew, and with the browser's own buttons."""
    viewer = look(site(files / "day.db"))
    page = viewer.page
    for name in ("1h", "7d", "30d", "90d", "all", "24h"):
        page.locator(f"[name=range][value='{name}']").check(force=True)
        viewer.ready()
        assert name == asked(viewer)["range"]
    page.fill("[name=agent]", "bull")
    page.keyboard.press("Enter")
    viewer.ready()
    assert "bull" == asked(viewer)["agent"]
    page.locator(".pick a", has_text="model").click()
    page.wait_for_selector(".pick a[aria-current]:has-text('model')")
    page.go_back()
    page.wait_for_selector(".pick a[aria-current]:has-text('agent')")
    page.reload()
    viewer.ready()
    assert "bull" == page.input_value("[name=agent]")
    assert ["bull"] == page.locator("#part-spenders .card").first.locator(
        "tbody a"
    ).all_inner_texts()
    page.locator("summary", has_text="Dates").click()
    page.fill("[name=since]", "2026-01-01T00:00")
    page.fill("[name=until]", "2026-01-02T00:00")
    page.keyboard.press("Enter")
    page.wait_for_selector("#state:has-text('No calls with these filters')")
    assert "range" not in asked(viewer)
    page.click("#clear")
    page.wait_for_selector("#state:has-text('changes are against')")
    assert "" == page.input_value("[name=agent]")
    assert page.locator("[name=range][value='24h']").is_checked()


def test_a_bar_of_the_chart_is_a_way_into_its_time(site, look, files):
    """It says what it shows, and leads there."""
    viewer = look(site(files / "day.db"), "/?range=7d")
    bar = viewer.page.locator(".plot a").last
    bar.hover()
    assert "$" in viewer.page.inner_text("#tip")
    bar.click()
    viewer.page.wait_for_function("() => location.search.includes('since=')")
    assert {"since", "until"} <= asked(viewer).keys()


@pytest.mark.parametrize("name", ["day", "hostile"])
def test_every_table_is_a_file(site, look, files, beside, name):
    """With all rows, and nothing in it that a spreadsheet would run."""
    viewer = look(site(files / f"{name}.db", **beside), "/?range=7d")
    links = viewer.page.locator("a[download]")
    addresses = links.evaluate_all("links => links.map(link => link.href)")
    assert len(addresses) >= 14
    with viewer.page.expect_download() as loaded:
        links.last.click()
    assert loaded.value.suggested_filename.endswith(".csv")
    for address in addresses:
        text = viewer.page.request.get(address).text()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len({len(row) for row in rows}) == 1 < len(rows)
        assert not [
            cell
            for row in rows
            for cell in row
            if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(cell)
        ]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d,.]+(e-?\d+)?( ?[%a-z]+)?", cell) is not None or cell == "-"


def test_the_theme_is_kept(site, look, files):
    """Across pages, and before the first paint."""
    viewer = look(site(files / "day.db"))
    page = viewer.page
    for theme in ("dark", "light"):
        page.click("#theme")
        assert theme == page.get_attribute("html", "data-theme")
        page.reload()
        assert theme == page.get_attribute("html", "data-theme")
        viewer.ready()
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") is None


def test_a_keyboard_is_enough(site, look, files):
    """Past the filters with the first key; ranges by arrows; tables can be scrolled."""
    viewer = look(site(files / "day.db"))
    page = viewer.page
    page.keyboard.press("Tab")
    assert "Skip to the figures" == page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert "figures" == page.evaluate("document.activeElement.id")
    page.focus("[name=range]:checked")
    page.keyboard.press("ArrowRight")
    viewer.ready()
    assert "7d" == asked(viewer)["range"]
    assert page.locator(".wide[tabindex='0'][aria-label]").count() > 5


# Live


def test_new_calls_come_by_themselves_and_disturb_nobody(site, look, files, tmp_path):
    """On screen at once, as text; what is focused, typed or open stays."""
    ledger = tmp_path / "live.db"
    viewer = look(site(ledger))
    page = viewer.page
    assert "No ledger at" in page.inner_text("#state")
    with Ledger(ledger) as opened:
        opened.record(record(started_at=datetime.now(UTC), attribution=Attribution("first")))
        opened.flush()
        page.wait_for_selector("#calls td:has-text('first')")
        page.wait_for_selector("#state:has-text('1 calls')")
        page.click("#all-figures summary")
        page.focus("[name=agent]")
        page.keyboard.type("fir")
        opened.record(record(started_at=datetime.now(UTC), attribution=Attribution(HOSTILE[1])))
        opened.flush()
        page.wait_for_selector("#state:has-text('2 calls')")

        assert page.locator("#all-figures[open]").count()
        assert ("agent", "fir") == tuple(
            page.evaluate("[document.activeElement.name, document.activeElement.value]")
        )
        assert HOSTILE[1] in page.locator("#calls td").all_inner_texts()
        page.fill("[name=agent]", "")
        page.click("#live")
        opened.record(record(started_at=datetime.now(UTC), attribution=Attribution("later")))
        opened.flush()
        page.wait_for_timeout(1_000)
        assert 0 == page.locator("#calls td:has-text('later')").count()
        page.click("#live")
        page.wait_for_selector("#state:has-text('3 calls')")


def test_a_dashboard_that_ends_is_told_and_found_again(site, look, files):
    """Nobody looks at old figures unaware."""
    served = site(files / "day.db")
    viewer = look(served)
    served.close()
    viewer.page.locator("[name=range][value='7d']").check(force=True)
    viewer.page.wait_for_selector("#trouble:not([hidden])")
    site(files / "day.db", port=served.port)
    viewer.page.wait_for_selector("#trouble[hidden]", state="attached")
    viewer.wrong = [said for said in viewer.wrong if "ERR_" not in said]


# Names


def test_hostile_names_are_text(site, look, files, beside):
    """In every dimension: none is markup, script, or another direction."""
    viewer = look(site(files / "hostile.db", **beside), "/?range=24h")
    page = viewer.page
    shown = page.inner_text("main")

    assert "Token spend" == page.title()
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[3], "{{ 7 * 7 }}"):
        assert name in shown
    assert 0 == page.locator("main img, main script, main iframe").count()
    assert not re.search("[\u202e\x1b]", shown)
    for number in range(page.locator("#part-runs tbody a").count()):
        page.goto(viewer.base + "/?range=24h")
        viewer.ready()
        page.locator("#part-runs tbody a").nth(number).click()
        page.wait_for_selector(".timeline tbody tr")
        assert page.title().startswith("Run ")
        assert 0 == viewer.overflow()


def test_a_hostile_name_can_be_chosen(site, look, files):
    """A link in a table filters by exactly this name, and so does writing it."""
    viewer = look(site(files / "hostile.db"), "/?range=24h")
    spenders = viewer.page.locator("#part-spenders .card").first
    linked = spenders.locator("tbody .name").evaluate_all("names => names.map(n => n.title)")
    assert len(linked) == 8
    for number, name in enumerate(linked):
        viewer.goto("/?range=24h")
        spenders.locator("tbody a").nth(number).click()
        viewer.page.wait_for_selector("#state[data-calls='1']")
        assert asked(viewer)["agent"] in (*HOSTILE, name)
    for name in (HOSTILE[1], HOSTILE[14], HOSTILE[17]):
        viewer.goto("/?range=24h")
        viewer.page.fill("[name=agent]", name)
        viewer.page.keyboard.press("Enter")
        viewer.page.wait_for_selector("#state[data-calls='1']")
        assert name == asked(viewer)["agent"]
