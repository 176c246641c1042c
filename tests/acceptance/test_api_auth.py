"""Nobody gets in without a key that fits: every route of the OpenAPI document, with every kind of wrong credential."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from tests.builders import events, wait_until
from tests.served import served

# What needs no key: a new route without one is a deliberate line here.
OPEN = {("get", "/healthz"), ("get", "/readyz")}
# Refused for what they ask, not for who asks: the collection of every key is limited.
REFUSED = (401, 403, 404)

PATTERN = r"^(?P<tenant>[^/]+)/(?P<project>[^/]+)/(?P<collection>[^/]+)/(?P<date>\d{4}/\d{2}/\d{2})/"
NOBODYS = "ef_aaaaaaaaaaaa_" + "b" * 49


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    home = tmp_path_factory.mktemp("auth")
    with served(
        home,
        events={"acme/shop/views/2026/01/02/a.gz": events(10)},
        sources={"events": {"key_pattern": PATTERN}},
        api={"rate": 1_000_000},
    ) as site:
        yield site


def operations():
    """(method, path template, operation) of everything that the document names."""
    from eventferry.api.openapi import document

    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


GUARDED = [(method, path) for method, path, _ in operations() if (method, path) not in OPEN]
SCOPES = {(method, path): next(iter(operation["security"][0].values()))[0]
          for method, path, operation in operations() if (method, path) not in OPEN}  # fmt: skip


@pytest.fixture(scope="module")
def mine(site):
    """What a key of the tenant acme has made: an export that is complete, with its file, and a saved query."""
    token = site.key(tenants=["acme"], projects=["shop"], collections=["views"])
    made = site.post("/v1/exports", token=token, json={}).json()
    ended = site.finished(made["id"], token=token)
    saved = site.post("/v1/queries", token=token, json={"name": "mine"}).json()
    return {"export": made["id"], "file": ended["files"][0]["name"], "query": saved["id"]}


@pytest.fixture(scope="module")
def invalid(site):
    """What opens nothing: nonsense, an unknown, a mistyped, an expired and a revoked key."""
    revoked = site.key(name="revoked")
    site.revoke(revoked)
    soon = datetime.now(UTC) + timedelta(hours=1)
    expired = site.key(name="expired", expires_ms=int(soon.timestamp() * 1000))
    with site.ledger.write() as tx:
        tx.execute(text("UPDATE api_keys SET expires_ms = 1 WHERE name = 'expired'"))
    return ["nonsense", NOBODYS, site.key()[:-1] + "!", expired, revoked]


@pytest.fixture(scope="module")
def misfit(site):
    """By scope, a key that has every other one."""
    scopes = {"events": ["exports"], "exports": ["events"], "admin": ["events", "exports"]}
    return {scope: site.key(scopes=others) for scope, others in scopes.items()}


@pytest.fixture(scope="module")
def stranger(site):
    """A key of another tenant with every scope that a tenant's key may have."""
    return site.key(scopes=["events", "exports"], tenants=["other"], projects=["other"], collections=["other"])


def filled(path, mine):
    """The path with the names of things that exist, of the tenant acme."""
    values = {"export_id": mine["export"], "query_id": mine["query"], "name": mine["file"], "date": "2026-01-02"}
    values |= {
        "project_id": "shop",
        "project": "shop",
        "pid": "shop",
        "collection": "views",
        "event_collection": "views",
    }
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}").partition(":")[0]
            fallback = mine["query"] if "quer" in path else mine["export"]
            path = path.replace(part, values.get(name, fallback))
    return path


def every_way(token):
    """The token in each place where some dialect looks for one."""
    yield {"headers": {"Authorization": f"Bearer {token}"}}
    yield {"headers": {"Authorization": "Basic " + base64.b64encode(f"ana:{token}".encode()).decode()}}
    yield {"headers": {"Authorization": token}}
    yield {"headers": {"X-Api-Key": token}}
    yield {"headers": {"X-Project-Id": "shop", "X-Api-Key": token}}
    yield {"params": {"api_key": token}}


def ask(site, method, path, mine, how):
    body = {"json": {}} if method in ("post", "put") else {}
    return site.client.request(method.upper(), filled(path, mine), **body, **how)


def test_every_route_that_is_not_listed_names_its_scope():
    """The document says of each operation which keys it takes; none is left out."""
    assert set(SCOPES.values()) == {"events", "exports", "admin"}
    assert {(method, path) for method, path, _ in operations()} >= OPEN
    assert len(GUARDED) > 30


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_valid_key_there_is_no_answer(site, mine, invalid, method, path):
    """No key, nonsense, an unknown, a mistyped, an expired and a revoked one, however presented: 401."""
    assert ask(site, method, path, mine, {}).status_code == 401
    for token in invalid:
        for how in every_way(token):
            answer = ask(site, method, path, mine, how)
            assert answer.status_code == 401, (token, how, answer.text)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_key_for_something_else_does_not_fit(site, mine, misfit, method, path):
    """A key with every scope but the needed one gets no answer."""
    token = misfit[SCOPES[(method, path)]]
    statuses = {ask(site, method, path, mine, how).status_code for how in every_way(token)}
    assert statuses <= {401, 403}, statuses
    assert 403 in statuses or "wp-json" in path, statuses  # there the user name must be the owner's, too


@pytest.mark.parametrize(("method", "path"), [each for each in GUARDED if "{" in each[1]])
def test_another_tenants_things_do_not_exist(site, mine, stranger, method, path):
    """A key of another tenant with every scope finds nothing under the names of things that are there."""
    for how in every_way(stranger):
        answer = ask(site, method, path, mine, how)
        if answer.status_code == 200 and method in ("get", "head"):  # a day has events of others, which it lacks here
            assert _is_empty(answer), answer.text
            continue
        # 400, 422: refused before anything was looked up
        assert answer.status_code in (*REFUSED, 400, 405, 406, 422), (how, answer.text)


# Words that name another tenant's things, for whichever route understands them; without any, its own of nothing.
QUERIES = ({}, {"date": "2026-01-02"}, {"tenant": "acme", "date": "2026-01-02"}, {"field": "n", "date": "2026-01-02"})
BODIES = (
    {"name": "a"},
    {"name": "a", "tenants": ["acme"], "projects": ["shop"], "collections": ["views"]},
    {"tenantId": "acme", "dataDateFrom": "2026-01-02", "dataDateTo": "2026-01-02"},
    {"tenantId": "other", "dataDateFrom": "2026-01-02", "dataDateTo": "2026-01-02"},
)


@pytest.mark.parametrize(("method", "path"), [each for each in GUARDED if "{" not in each[1]])
def test_another_tenants_things_are_met_nowhere(site, mine, stranger, method, path):
    """Where the path names nothing, a key of another tenant meets nothing of acme, nor gets it into an export."""
    bodies = (*BODIES, {"name": "a", "query": mine["query"]}) if method == "post" else (None,)
    for query in QUERIES if method == "get" else ({},):
        for body in bodies:
            answer = site.request(method.upper(), path, token=stranger, params=query, json=body)
            assert answer.status_code < 500, answer.text
            assert mine["export"] not in answer.text and '"n":' not in answer.text, answer.text
            if answer.status_code < 300 and method == "get":
                assert mine["query"] not in answer.text
            if answer.status_code == 201 and "quer" not in path:
                assert made_events(site, answer.json()["id"]) == 0


def made_events(site, export_id):
    """How many events the export holds once it is complete."""

    def row():
        with site.ledger.read() as tx:
            return tx.execute(text("SELECT state, events FROM exports WHERE id = :id"), {"id": export_id}).one()

    wait_until(lambda: row().state == "complete", 30)
    return row().events


def _is_empty(answer):
    text = answer.text.strip()
    if not text:
        return True
    found = json.loads(text)
    return not (found.get("result", found) if isinstance(found, dict) else found)
