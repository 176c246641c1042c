"""Signing in to the console, staying signed in, and everything that must not."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from tests.builders import wait_until
from tests.visitor import Place, Visitor, console

from eventferry import clock
from eventferry.console import SURFACE, sessions
from eventferry.query import Scope

# Routes that need nobody signed in.
OPEN = {("GET", "/console/sign-in"), ("POST", "/console/sign-in"), ("GET", "/console/static/{name}")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with console(tmp_path_factory.mktemp("console")) as found:
        yield found


def routes(place: Place) -> list[tuple[str, str]]:
    found = [each for each in SURFACE.build(place.parts).routes if isinstance(each, APIRoute)]
    return sorted((method, each.path) for each in found for method in each.methods)


def filled(path: str) -> str:
    return path.replace("{id}", "6a3e6f5c-8d4c-4d43-9b0e-0a3b7c1d2e3f").replace("{name}", "events.csv")


def test_every_page_of_the_console_asks_for_a_sign_in_first(place: Place) -> None:
    asked = [each for each in routes(place) if each not in OPEN]
    assert len(asked) >= 12
    for method, path in asked:
        answer = httpx.request(method, place.inside + filled(path), follow_redirects=False)
        if path == "/console/exports/rows":
            assert answer.status_code == 401, path
        else:
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/console/sign-in"), (method, path)


def test_no_form_works_without_its_token_or_with_that_of_another_session(place: Place) -> None:
    someone, other = place.visitor(), place.visitor()
    export_id = place.make()
    forms = [each for each in routes(place) if each[0] == "POST" and each not in OPEN]
    assert len(forms) >= 4
    for _, path in forms:
        for token in ({"other": "1"}, {"token": "x"}, {"token": other.token("/console/exports/new")}):
            answer = someone.client.post(path.replace("{id}", export_id), data=token)
            assert answer.status_code == 403, path
            assert "not sent from a page of this session" in answer.text
    assert place.row(export_id).state == "queued"


def test_a_form_from_another_site_is_refused_even_with_a_token(place: Place) -> None:
    someone = place.visitor()
    answer = someone.send("/console/sign-out", page="/console/exports", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_the_sign_in_form_belongs_to_the_browser_that_asked_for_it(place: Place) -> None:
    _, key = place.key()
    token = Visitor(place.inside).token("/console/sign-in")
    answer = httpx.post(f"{place.inside}/console/sign-in", data={"token": token, "key": key})
    assert answer.status_code == 403


def test_unknown_expired_and_revoked_keys_are_refused_with_the_same_words(place: Place) -> None:
    revoked, revoked_token = place.key()
    place.revoke(revoked)
    _, expiring = place.key(expires_ms=clock.now_ms() + 40)
    passed = clock.now_ms() + 60
    wait_until(lambda: clock.now_ms() > passed)
    said = set()
    for wrong in ("", "nonsense", "ef_" + "a" * 12 + "_" + "b" * 49, revoked_token, expiring, "ü\u0000"):
        answer = Visitor(place.inside).sign_in(wrong)
        assert answer.status_code == 401
        assert "session" not in "".join(answer.headers.get_list("set-cookie"))
        said.add(re.sub(r'name="token" value="[^"]+"', "", answer.text))
    assert len(said) == 1


def test_the_cookie_is_out_of_reach_of_scripts_and_holds_no_secret(place: Place) -> None:
    _, key = place.key()
    answer = Visitor(place.inside).sign_in(key)
    cookie = next(each for each in answer.headers.get_list("set-cookie") if "session" in each)
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert key.split("_")[2][:20] not in cookie


def test_behind_https_the_cookie_is_bound_to_host_and_encryption(tmp_path: Path) -> None:
    with console(tmp_path, api={"public_url": "https://events.example.com/ferry"}) as place:
        answer = httpx.get(f"{place.inside}/console/sign-in")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-eventferry-visit=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert 'action="/ferry/console/sign-in"' in answer.text


def test_a_revoked_key_ends_its_sessions_at_once(place: Place) -> None:
    key, token = place.key()
    someone = Visitor(place.inside)
    someone.sign_in(token)
    assert someone.get("/console/exports").status_code == 200
    place.revoke(key)
    answer = someone.get("/console/exports")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in?next=/exports&said=ended")
    assert "session has ended" in someone.get(answer.headers["location"]).text
    assert someone.get("/console/exports/rows").status_code == 401


def test_a_session_ends_after_twelve_hours_and_an_altered_one_at_once(place: Place) -> None:
    key, _ = place.key()

    def status(age_ms: int, alter: bool = False) -> int:
        ticket = f"{key.id}~{clock.now_ms() - age_ms}~nonce"
        signed = place.parts.keyring.sign("console-session", ticket.encode())
        cookie = f"{ticket}~{signed[:-1] + ('A' if signed[-1] != 'A' else 'B') if alter else signed}"
        return httpx.get(f"{place.inside}/console/exports", cookies={"eventferry-session": cookie}).status_code

    life = sessions.LIFE_SECONDS * 1000
    assert status(0) == 200
    assert status(life - 60_000) == 200
    assert status(life) == 303
    assert status(0, alter=True) == 303
    assert status(-3_600_000) == 303
    for cookie in ("", "x", "~~~", "a~1~b~c", f"{key.id}~{'9' * 30}~n~s", "%00~1~2~3"):
        answer = httpx.get(f"{place.inside}/console/exports", cookies={"eventferry-session": cookie})
        assert answer.status_code == 303, cookie


def test_signing_out_ends_the_session_in_this_browser(place: Place) -> None:
    someone = place.visitor()
    answer = someone.send("/console/sign-out", page="/console/exports")
    assert answer.headers["location"] == "/console/sign-in?said=out"
    assert someone.get("/console/exports").status_code == 303


def test_who_tries_many_keys_has_to_wait(tmp_path: Path) -> None:
    with console(tmp_path, failures=3) as place:
        visitor = Visitor(place.inside)
        answers = [visitor.sign_in("wrong") for _ in range(5)]
        assert [each.status_code for each in answers] == [401, 401, 401, 429, 429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert "Wait" in answers[-1].text


@pytest.mark.parametrize(
    ("next", "leads_to"),
    [
        ("/exports/new", "/console/exports/new"),
        ("", "/console/exports"),
        ("//evil.example", "/console/exports"),
        ("https://evil.example/exports", "/console/exports"),
        ("/exports\\@evil.example", "/console/exports"),
        ("/exports\r\nX: y", "/console/exports"),
        ("/exports/../../v1", "/console/exports"),
    ],
)
def test_signing_in_leads_to_pages_of_the_console_only(place: Place, next: str, leads_to: str) -> None:
    _, token = place.key()
    assert Visitor(place.inside).sign_in(token, next).headers["location"] == leads_to


def test_a_key_without_the_scope_is_told_so_and_can_sign_out(place: Place) -> None:
    someone = place.visitor(scopes=["events"])
    answer = someone.get("/console/exports")
    assert answer.status_code == 403
    assert "lacks the scope" in answer.text
    assert "/console/sign-out" in answer.text


def test_every_answer_carries_the_strict_policy(place: Place) -> None:
    someone = place.visitor(realm=Scope(tenants=("acme",)))
    for path in (
        "/console/sign-in",
        "/console/exports",
        "/console/exports/new",
        "/console/nothing",
        "/console/exports/x",
    ):
        policy = someone.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    for page in (someone.get("/console/exports"), someone.get("/console/exports/new")):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.text)
