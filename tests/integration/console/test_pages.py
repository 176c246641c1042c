"""The pages of Data export over HTTP, as a browser without scripts sees them."""

import html
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.visitor import Place, Visitor, console

from eventferry import clock
from eventferry.console import assets
from eventferry.console.listing import PAGE
from eventferry.exports import ending, requests
from eventferry.ledger.database import set_meta
from eventferry.query import Scope

XSS = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=document.title='owned'>",
    "' onmouseover='alert(1)",
    "</title><svg onload=document.title='owned'>",
    "javascript:alert(1)",
    "{{ 7*7 }}${7*7}",
    "<!--",
    "]]>&lt;",
    "\u202egpj.exe\u2066",
]
A_DAY = {"range": "days", "first": "2026-01-02", "last": "2026-01-02", "timezone": "UTC", "format": "csv"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with console(
        tmp_path_factory.mktemp("console"), exports={"queued_per_key": 50}, api={"max_body": "32KiB"}
    ) as found:
        yield found


def create(someone: Visitor, **fields: object) -> str:
    """The page that answers the form."""
    answer = someone.send("/console/exports/new", {**A_DAY, "do": "create", **fields})
    return answer.headers.get("location") or html.unescape(answer.text)


def test_an_export_is_made_as_the_form_says(place: Place) -> None:
    someone = place.visitor()
    conditions = {
        "condition_field": ["event_type", "n", ""],
        "condition_op": ["in", "gte", "eq"],
        "condition_value": ["pageView, click", "5", ""],
        "condition_kind": ["auto", "auto", "auto"],
    }
    said = create(
        someone, name="Two days", last="2026-01-03", timezone="Europe/Vienna", compression="gzip", **conditions
    )
    assert said == "/console/exports?said=queued"
    row = place.rows()[0]
    assert (row.name, row.dialect, row.state) == ("Two days", "console", "queued")
    selection = requests.selection_of(row)
    assert (selection.start_ms, selection.end_ms) == (1_767_308_400_000, 1_767_481_200_000)
    assert row.asked == {
        "filter": [{"field": "event_type", "in": ["pageView", "click"]}, {"field": "n", "gte": 5}],
        "timeframe": {"start": "2026-01-02", "end": "2026-01-04"},
        "timezone": "Europe/Vienna",
    }
    assert (row.output["format"], row.output["compression"], row.output["formula_guard"]) == ("csv", "gzip", False)
    shown = html.unescape(someone.get("/console/exports").text)
    assert "2 – 3 Jan 2026 Europe/Vienna" in shown
    assert "event_type is one of" in shown


def test_the_formula_guard_is_on_unless_it_is_taken_off(place: Place) -> None:
    someone = place.visitor()
    assert 'name="formula_guard" value="on" checked' in someone.get("/console/exports/new").text
    create(someone, formula_guard="on")
    assert place.rows()[0].output["formula_guard"] is True


def test_mistakes_stand_beside_their_fields_and_what_was_typed_stays(place: Place) -> None:
    someone = place.visitor()
    before = len(place.rows())
    page = create(
        someone, name="Keep <me>", first="2026-02-31", timezone="Mars/Olympus", format="xls", filter_json="[{"
    )
    assert "2026-02-31 does not exist" in page
    assert "'Mars/Olympus' is not a time zone" in page
    assert "choose one of csv, ndjson, json, parquet" in page
    assert "is not JSON" in page
    assert 'value="Keep <me>"' in page
    assert 'value="Mars/Olympus"' in page
    assert 'id="first-mistake"' in page and 'aria-describedby="first-mistake"' in page
    assert len(place.rows()) == before


def test_the_end_before_the_start_is_said_at_the_end(place: Place) -> None:
    page = create(place.visitor(), first="2026-01-05", last="2026-01-02")
    assert "2026-01-02 is before the first day, 2026-01-05" in page


def test_a_condition_is_added_without_scripts(place: Place) -> None:
    someone = place.visitor()
    fields = {**A_DAY, "do": "add", "condition_field": "a.b", "condition_op": "lt", "condition_value": "3",
              "condition_kind": "number"}  # fmt: skip
    page = someone.send("/console/exports/new", fields).text
    assert page.count('name="condition_field"') == 2
    assert 'value="a.b"' in page
    assert '<option value="lt" selected>' in page


def test_the_same_form_sent_twice_makes_one_export_and_a_changed_one_another(place: Place) -> None:
    someone = place.visitor()
    fields = {**A_DAY, "do": "create", "once": "click-click", "name": "once"}
    for name in ("once", "once", "changed"):
        assert someone.send("/console/exports/new", {**fields, "name": name}).status_code == 303
    assert [row.name for row in place.rows()[:2]] == ["changed", "once"]
    assert sum(row.name == "once" for row in place.rows()) == 1


def test_a_full_queue_is_said_on_the_form(tmp_path: Path) -> None:
    with console(tmp_path, exports={"queued_per_key": 1}) as place:
        someone = place.visitor()
        create(someone)
        answer = someone.send("/console/exports/new", {**A_DAY, "do": "create", "name": "one too many"})
        assert answer.status_code == 429
        assert "exports of this key are waiting already" in answer.text
        assert "one too many" in answer.text


def test_the_list_is_paged_newest_first_and_told_by_state(place: Place) -> None:
    key, token = place.key(realm=Scope(tenants=("paged",)))
    someone = Visitor(place.inside)
    someone.sign_in(token)
    ids = [place.make(key, name=f"number {number}") for number in range(PAGE + 2)]
    first = someone.get("/console/exports").text
    assert first.count("<tr id=") == PAGE
    following = html.unescape(first.split('rel="next" href="')[1].split('"')[0])
    rest = someone.get(following).text
    assert [each in rest for each in ids] == [True, True] + [False] * PAGE
    assert "No exports here" in someone.get("/console/exports?state=failed").text
    for absurd in ("after=-1", "after=²", f"after={'9' * 20}", "state=<b>", "after=99999999999999999999999"):
        assert someone.get(f"/console/exports?{absurd}").status_code in (200, 422), absurd


def test_without_exports_the_page_says_what_to_do(place: Place) -> None:
    page = place.visitor(realm=Scope(tenants=("nobody",))).get("/console/exports").text
    assert "No exports yet" in page
    assert "/console/exports/new" in page


def test_progress_failure_and_files_are_shown(place: Place) -> None:
    someone = place.visitor()
    running, failed, several = (place.make(name=each) for each in ("running", "failed", "several"))
    place.start(running, percent=42)
    place.fail(failed, "the disk is <full>")
    place.complete(several, {"events-1.csv": b"a\n", "events-2.csv": b"b\n"})
    shown = html.unescape(someone.get(f"/console/exports/rows?id={running}&id={failed}&id=unknown").text)
    assert shown.count("<tr id=") == 2
    assert 'value="42"' in shown
    assert "the disk is <full>" in shown
    (place.parts.desk.folder / several / "manifest.json").write_bytes(b"{}")
    page = someone.get(f"/console/exports/{several}").text
    for name in ("events-1.csv", "events-2.csv", "manifest.json"):
        assert f"/console/exports/{several}/files/{name}" in page
    assert someone.get(f"/console/exports/{several}/files/manifest.json").content == b"{}"
    assert someone.get(f"/console/exports/{several}/download").headers["location"] == f"/console/exports/{several}"


def test_a_file_is_downloaded_until_its_export_is_deleted(place: Place) -> None:
    someone = place.visitor()
    made = place.make(name="one file")
    place.complete(made, {"events.csv": b"n\n1\n"})
    to_file = someone.get(f"/console/exports/{made}/download").headers["location"]
    answer = someone.get(to_file)
    assert answer.content == b"n\n1\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="one-file-events.csv"'
    rest = someone.client.get(to_file, headers={"Range": "bytes=2-"})
    assert (rest.status_code, rest.content) == (206, b"1\n")
    assert "The events themselves stay" in someone.get(f"/console/exports/{made}/delete").text
    assert place.row(made).deleted_ms is None
    answer = someone.send(f"/console/exports/{made}/delete")
    assert answer.headers["location"] == "/console/exports?said=deleted"
    assert someone.get(to_file).status_code == 404
    assert someone.get(f"/console/exports/{made}").status_code == 404


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("", 'filename="{id}-data.csv"'),
        ("…/..", 'filename="{id}-data.csv"'),
        ("Daily views: March & April", 'filename="daily-views-march-april-data.csv"'),
        ("Übersicht", "filename=\"_bersicht-data.csv\"; filename*=UTF-8''%C3%BCbersicht-data.csv"),
        ('x"\r\nSet-Cookie: a=b', 'filename="x-set-cookie-a-b-data.csv"'),
    ],
)
def test_a_file_is_saved_under_the_name_of_its_export(place: Place, name: str, header: str) -> None:
    """Or two downloads could not be told apart; its name in the export stays."""
    made = place.make(name=name)
    place.complete(made, {"data.csv": b"n\n1\n"})
    answer = place.visitor().get(f"/console/exports/{made}/files/data.csv")
    assert answer.headers["content-disposition"] == f"attachment; {header.format(id=made[:8])}"


def test_without_a_daemon_nobody_is_promised_an_export_in_seconds(place: Place) -> None:
    """It waits until the daemon runs, and the list says so."""
    someone = place.visitor()
    said = html.unescape(someone.get("/console/exports?said=queued").text)
    assert "Exports wait until the daemon runs." in said
    assert "within a few seconds" not in said
    with place.parts.ledger.write() as tx:
        set_meta(tx, "heartbeat_ms", clock.now_ms())
    said = html.unescape(someone.get("/console/exports?said=queued").text)
    assert "Exports wait until the daemon runs." not in said
    assert "starts within a few seconds" in said
    with place.parts.ledger.write() as tx:
        set_meta(tx, "heartbeat_ms", clock.now_ms() - 61_000)
    assert "Exports wait until the daemon runs." in someone.get("/console/exports").text


def test_an_export_that_waits_for_a_store_says_so(place: Place) -> None:
    """In the list and on its page, until it runs again."""
    someone = place.visitor()
    made = place.make(name="waits")
    place.start(made)
    ending.fail_or_retry(place.parts.desk, made, "the store of the events cannot be read now", "store", "s3://b/k")
    for path in ("", f"/{made}", f"/rows?id={made}"):
        page = someone.get(f"/console/exports{path}").text
        assert "waits: the store of the events cannot be read now; it is tried again" in page, path
    place.start(made)
    assert "waits:" not in someone.get(f"/console/exports/{made}").text


def test_a_waiting_export_is_cancelled(place: Place) -> None:
    someone = place.visitor()
    made = place.make()
    someone.send(f"/console/exports/{made}/cancel", page="/console/exports")
    assert place.row(made).state == "cancelled"


def test_exports_of_another_tenant_do_not_exist(place: Place) -> None:
    key, _ = place.key(realm=Scope(tenants=("acme",)))
    made = place.make(key, name="secret of acme")
    stranger = place.visitor(realm=Scope(tenants=("other",)))
    unknown = stranger.get("/console/exports/7a3e6f5c-8d4c-4d43-9b0e-0a3b7c1d2e3f")
    for path in ("", "/delete", "/files/events.csv", "/download"):
        answer = stranger.get(f"/console/exports/{made}{path}")
        assert (answer.status_code, answer.text) == (404, unknown.text), path
    for path in ("/delete", "/cancel"):
        fields = {"token": stranger.token("/console/exports/new")}
        assert stranger.client.post(f"/console/exports/{made}{path}", data=fields).status_code == 404
    assert "secret of acme" not in stranger.get("/console/exports").text
    assert made not in stranger.get(f"/console/exports/rows?id={made}").text
    assert place.row(made).state == "queued"


def test_a_limited_key_chooses_among_its_own_names(place: Place) -> None:
    someone = place.visitor(realm=Scope(collections=("clicks", "orders"), tenants=("acme",)))
    page = someone.get("/console/exports/new").text
    assert 'type="checkbox" name="collections" value="clicks"' in page
    assert 'name="tenants"' not in page
    create(someone, collections="clicks")
    assert requests.selection_of(place.rows()[0]).scope == Scope(tenants=("acme",), collections=("clicks",))
    assert "'users' is not among those of your key" in create(someone, collections="users")


@pytest.mark.parametrize("text", XSS)
def test_whatever_a_name_holds_is_shown_as_text(place: Place, text: str) -> None:
    someone = place.visitor()
    create(someone, name=text, condition_field=text, condition_op="eq", condition_value=text, condition_kind="text")
    made = place.rows()[0]
    assert made.name == text
    for path in ("/console/exports", f"/console/exports/{made.id}", f"/console/exports/{made.id}/delete"):
        page = someone.get(path).text
        if set(text) & set("<>\"'"):
            assert text not in page, path
        assert text in html.unescape(page), path


def test_what_is_no_form_is_refused_with_a_page(place: Place) -> None:
    someone = place.visitor()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    token = urlencode({"token": someone.token("/console/exports/new")}).encode()
    for content, headers, status in [
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"", {}, 415),
        (b"\xff\xfe", form, 400),
        (b"name=%ff", form, 400),
        (token + b"&x=1" * 2000, form, 400),
        (token + b"&do=create", form, 422),
        (token + b"&do=create&range=%00&first=%00&timeframe=%00&format=%00", form, 422),
        (token + b"&name=" + b"x" * 300, form, 422),
        (b"x" * 40_000, form, 413),
    ]:
        answer = someone.client.post("/console/exports/new", content=content, headers=headers)
        assert answer.status_code == status, (content[:60], answer.status_code)
        assert answer.headers["content-type"].startswith("text/html")
    assert someone.client.put("/console/exports/new").status_code == 405


def test_a_failure_of_the_server_is_a_page_without_its_reason(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("what nobody shall read")

    someone = place.visitor()
    monkeypatch.setattr(requests, "list_page", fail)
    answer = someone.get("/console/exports")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "nobody" not in answer.text


def test_files_of_the_pages_are_kept_by_browsers_until_they_change(place: Place) -> None:
    visitor = Visitor(place.inside)
    for name, asset in assets.assets().items():
        answer = visitor.get(assets.address("/console", name))
        assert answer.content == asset.body
        assert "immutable" in answer.headers["cache-control"]
        again = visitor.client.get(f"/console/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    for missing in ("nothing.css", "..%2fpages.py", "console.css%00"):
        assert visitor.get(f"/console/static/{missing}").status_code == 404
