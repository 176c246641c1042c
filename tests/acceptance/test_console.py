"""The console as a person meets it: a real browser, the server, and a daemon that makes the exports."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser import chromium, window
from tests.builders import events, wait_until
from tests.served import Site, served
from tests.visitor import Place, console

from eventferry.query import Scope

DAY, NEXT_DAY = 1_767_312_000_000, 1_767_398_400_000  # 2 and 3 January 2026, UTC
EVENTS = 5000
PHONE = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 800}

# Every text of the page against what is painted behind it, by the formulas of WCAG 2.
CONTRASTS = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest(".sr, noscript") || !element.checkVisibility()) {
      continue;
    }
    const [light, dark] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))]
      .sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)} ${element.textContent}`);
  }
  return found;
}"""
UNLABELLED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((each) => !each.labels.length && !each.ariaLabel).map((each) => each.name)"""
IS_FOCUS_VISIBLE = """() => {
  const focused = document.activeElement;
  const shown = focused.matches("[type=radio]") && focused.nextElementSibling ? focused.nextElementSibling : focused;
  const box = shown.getBoundingClientRect();
  return getComputedStyle(shown).outlineStyle !== "none" && box.bottom > 0 && box.top < innerHeight;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    days = {
        "2026/01/02/03/a.gz": events(EVENTS, tags=["a", "b"], at={"path": "/x"}),
        "2026/01/03/03/b.gz": events(50, start=NEXT_DAY - DAY),
    }
    with served(tmp_path_factory.mktemp("site"), events=days) as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A console without a daemon, whose exports stand still."""
    with console(tmp_path_factory.mktemp("place"), instance="Acme events") as found:
        yield found


def fill_in(page: Any, name: str, format: str) -> None:
    """Ask for the events of 2 January."""
    page.get_by_role("link", name="New export").click()
    page.get_by_label("From", exact=True).fill("2026-01-02")
    page.get_by_label("To, included").fill("2026-01-02")
    page.locator(f"label:has([name=format][value={format}])").click()
    page.get_by_role("textbox", name="Name").fill(name)
    page.locator("p.submit button").click()


def download(page: Any, name: str) -> bytes:
    with page.expect_download() as started:
        page.get_by_role("row", name=name).get_by_role("link", name="Download").click()
    return Path(started.value.path()).read_bytes()


def test_a_person_signs_in_exports_a_day_to_csv_and_to_parquet_watches_the_progress_and_downloads_both(
    browser: Any, site: Site
) -> None:
    import pyarrow.parquet

    with window(browser, site.url, viewport=WIDE) as at:
        page = at.sign_in(site.key())
        assert page.get_by_role("heading", name="No exports yet").is_visible()
        for name, format in (("A day as CSV", "csv"), ("A day as Parquet", "parquet")):
            fill_in(page, name, format)
            page.evaluate("window.stillTheSamePage = true")
            row = page.get_by_role("row", name=name)
            assert row.locator(".badge").inner_text() in ("Queued", "Running", "Ready")
            row.locator(".badge.complete").wait_for(timeout=30_000)
            assert page.evaluate("window.stillTheSamePage")
            assert f"{EVENTS:,}" in row.inner_text()
        table = download(page, "A day as CSV")
        columns = download(page, "A day as Parquet")
        assert page.get_by_role("status").filter(has_text="A day as Parquet, 2 Jan 2026 UTC: Ready").count() == 1
        page.get_by_role("link", name="A day as CSV", exact=True).click()
        with page.expect_download() as started:
            page.get_by_role("link", name="manifest.json").click()
        manifest = json.loads(Path(started.value.path()).read_bytes())
    assert (manifest["events"], len(manifest["files"])) == (EVENTS, 1)
    assert manifest["files"][0]["sha256"] == hashlib.sha256(table).hexdigest()
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert sorted(int(row["n"]) for row in rows) == list(range(EVENTS))
    assert {(row["event_type"], row["tags"], row["at.path"]) for row in rows} == {("pageView", "a;b", "/x")}
    found = pyarrow.parquet.read_table(io.BytesIO(columns)).to_pydict()
    assert sorted(found["n"]) == list(range(EVENTS))


def test_everything_but_live_progress_works_without_scripts(browser: Any, site: Site) -> None:
    with window(browser, site.url, java_script_enabled=False) as at:
        page = at.sign_in(site.key())
        page.get_by_role("link", name="New export").click()
        page.locator("label:has([value=timeframe])").click()
        assert page.get_by_label("In words").is_hidden()
        page.get_by_role("combobox", name="Timeframe").select_option("other")
        page.get_by_label("In words").fill("last_9000_days")
        page.get_by_role("textbox", name="Field").fill("n")
        page.get_by_role("combobox", name="Operator").select_option("gte")
        page.get_by_role("textbox", name="Value").fill("4990")
        page.get_by_role("button", name="Add a condition").click()
        page.get_by_role("textbox", name="Field").nth(1).fill("tags")
        page.get_by_role("textbox", name="Value").nth(1).fill("a")
        page.locator("label:has([name=format][value=ndjson])").click()
        page.get_by_role("textbox", name="Name").fill("Without scripts")
        page.locator("p.submit button").click()
        row = page.get_by_role("row", name="Without scripts")

        def is_ready() -> bool:
            page.goto("/console/exports")
            return bool(row.locator(".badge.complete").count())

        wait_until(is_ready, 30, "the export")
        body = download(page, "Without scripts")
        assert [json.loads(line)["n"] for line in body.splitlines()] == list(range(4990, 5000))
        row.get_by_role("link", name="Delete").click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_text("The export and its files are deleted.").wait_for()
        assert row.count() == 0


def test_progress_moves_by_itself_and_failures_are_announced(browser: Any, place: Place) -> None:
    made = place.make(name="Watched")
    with window(browser, place.url) as at:
        page = at.sign_in(place.key()[1])
        page.locator(f"#cancel-{made}").focus()
        place.start(made, percent=42)
        row = page.locator(f"#export-{made}")
        row.locator("progress[value='42']").wait_for()
        assert page.evaluate("document.activeElement.id") == f"cancel-{made}"
        place.start(made, percent=80)
        row.get_by_text("80 %").wait_for()
        assert row.locator("progress").evaluate("(bar) => bar.value") == 80
        place.fail(made, "the store does not answer")
        row.locator(".badge.failed").wait_for()
        assert row.get_by_text("the store does not answer").is_visible()
        assert page.locator("#spoken").inner_text() == "Watched, All events: Failed"


def test_a_revoked_key_is_signed_out_while_the_page_is_open(browser: Any, place: Place) -> None:
    key, token = place.key()
    made = place.make(name="Left alone")
    with window(browser, place.url) as at:
        page = at.sign_in(token)
        place.revoke(key)
        page.get_by_text("Your session has ended").wait_for()
        assert page.get_by_label("Key").is_visible()
    place.fail(made, "over")


def test_the_console_is_used_with_the_keyboard_alone(browser: Any, place: Place) -> None:
    with window(browser, place.url, viewport=WIDE) as at:
        page, keyboard = at.page, at.page.keyboard
        page.goto("/console")
        keyboard.type(place.key(realm=Scope(tenants=("keyboard",)))[1])
        keyboard.press("Enter")
        page.get_by_role("heading", name="No exports yet").wait_for()
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        keyboard.press("Enter")
        keyboard.press("Tab")
        keyboard.press("Enter")  # New export, the first thing of the content
        page.get_by_role("heading", name="New export").wait_for()
        stops = []
        for _ in range(60):
            keyboard.press("Tab")
            stop = page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()")
            if page.evaluate("document.activeElement === document.body") or (stops and stop == stops[0]):
                break
            stops.append(stop)
            assert page.evaluate(IS_FOCUS_VISIBLE), stop
        wanted = ["range", "first", "last", "timezone", "match", "condition_field", "condition_op", "condition_value",
                  "condition_kind", "do", "format", "compression", "formula_guard", "name"]  # fmt: skip
        assert [name for name in dict.fromkeys(stops) if name in wanted] == wanted
        page.get_by_role("textbox", name="Name").focus()
        keyboard.type("Typed")
        keyboard.press("Enter")
        page.get_by_text("The export is queued").wait_for()
        assert place.rows()[0].name == "Typed"
        assert page.get_by_role("row", name="Typed").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_readable_and_fits_a_phone(browser: Any, place: Place, scheme: str) -> None:
    key, token = place.key(realm=Scope(tenants=(f"{scheme}-{'wide' * 20}",)))
    long_name = "A_very_long_name_without_any_space_" * 5
    ids = [place.make(key, name=long_name) for _ in range(4)]
    place.start(ids[0], percent=50)
    place.fail(ids[1], "/a/very/long/path/" * 20)
    place.complete(ids[2], {f"{'long' * 40}-{number}.csv": b"" for number in range(3)})
    with window(browser, place.url, viewport=PHONE, color_scheme=scheme) as at:
        page = at.page
        page.goto("/console")
        page.get_by_label("Key").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        check_page(page)
        at.sign_in(token)
        paths = ["/exports", "/exports/new", "/nothing", "/exports?state=expired"]
        for path in [*paths, *(f"/exports/{each}" for each in ids), f"/exports/{ids[1]}/delete"]:
            page.goto(f"/console{path}")
            check_page(page)
        page.goto("/console/exports/new")
        page.get_by_label("From", exact=True).fill("")
        page.get_by_label("Time zone").fill("Nowhere" * 10)
        page.locator("p.submit button").click()
        page.locator("#mistakes").wait_for()
        check_page(page)
        page.set_viewport_size(WIDE)
        page.goto("/console/exports")
        check_page(page)


def check_page(page: Any) -> None:
    size = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1], page.url
    assert page.evaluate(CONTRASTS) == [], page.url
    assert page.title().endswith(" · Acme events")
    assert page.evaluate(UNLABELLED) == [], page.url


def test_hostile_names_run_nothing_in_the_browser(browser: Any, place: Place) -> None:
    key, token = place.key(name="<img src=x onerror=alert(1)>", owner="<b>", realm=Scope(tenants=("hostile",)))
    texts = [
        "<script>document.title='owned'</script>",
        "\"><img src=x onerror=document.title='owned'>",
        "</title></textarea><svg onload=document.title='owned'>",
        "<a href=javascript:alert(1)>",
    ]
    ids = [place.make(key, name=each, asked={"filter": [{"field": each, "eq": each}]}) for each in texts]
    place.fail(ids[0], texts[1])
    with window(browser, place.url) as at:
        page = at.sign_in(token)
        for path in ("/exports", *(f"/exports/{each}" for each in ids), f"/exports/{ids[1]}/delete"):
            page.goto(f"/console{path}")
            assert "owned" not in page.evaluate("document.title").split(" · ")[-1]
            assert page.evaluate("document.querySelectorAll('main img, main script, header img').length") == 0
        page.goto("/console/exports")
        for each in ids[1:]:  # rows that come through the script are text, too
            place.start(each, percent=10)
        page.locator(f"#export-{ids[3]} progress").wait_for()
        for text in texts:
            assert page.get_by_text(text, exact=True).first.is_visible()
        assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
