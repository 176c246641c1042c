"""`eventferry keys …` beside a running daemon and server: what it says counts for the next request."""

import json
import logging
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.builders import events
from tests.served import Site, served
from typer.testing import CliRunner, Result

from eventferry import logs
from eventferry.cli.place import be_quiet
from eventferry.cli.program import program

EVENTFERRY = Path(sysconfig.get_path("scripts")) / "eventferry"
TOKEN = re.compile(r"ef_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\n")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find their configuration by their options, and have room for their tables."""
    for name in ("EVENTFERRY_CONFIG", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The daemon is in this process: what it logs must not stand between what commands print."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    be_quiet()
    try:
        with served(tmp_path_factory.mktemp("keys"), events=events(3) + events(2, 3, country="DE")) as made:
            yield made
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logs.set_redactor(None)
        structlog.reset_defaults()


def run(site: Site | Path, *args: str) -> Result:
    """Run `eventferry keys …` to its end."""
    config = site if isinstance(site, Path) else site.home / "config.toml"
    return CliRunner().invoke(program, ["--config", str(config), "keys", *args])


def create(site: Site, *args: str) -> str:
    done = run(site, "create", *args)
    assert done.exit_code == 0, done.stderr
    assert TOKEN.fullmatch(done.stdout)
    return done.stdout.strip()


def listed(site: Site, name: str) -> dict[str, object]:
    found = [row for row in json.loads(run(site, "list", "--json").stdout) if row["name"] == name]
    assert len(found) == 1
    return dict(found[0])


def test_a_key_works_as_soon_as_it_is_made(site: Site) -> None:
    """The token alone is on standard output; what it is stands beside it."""
    config = site.home / "config.toml"
    command = [EVENTFERRY, "--config", config, "keys", "create", "reader", "--owner", "ana", "--scope", "events"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert TOKEN.fullmatch(done.stdout)
    assert "ana may use it for events; all events; until it is revoked" in done.stderr
    assert done.stdout.strip() not in done.stderr
    answer = site.get("/v1/events/2026-01-02", token=done.stdout.strip())
    assert answer.status_code == 200
    shown = listed(site, "reader")
    assert (shown["owner"], shown["scopes"], shown["state"]) == ("ana", ["events"], "active")
    assert shown["used"] is not None


def test_a_key_sees_what_it_was_made_for(site: Site) -> None:
    """Its filter is ANDed to whatever it asks; other tenants do not exist for it."""
    only = '{"or": [{"field": "country", "eq": "DE"}, {"not": {"field": "n", "exists": true}}]}'
    filtered = create(site, "filtered", "--filter", only)
    answer = site.get("/v1/events/2026-01-02", token=filtered, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["n"] for line in answer.content.splitlines()] == [3, 4]
    shown = listed(site, "filtered")
    assert (shown["filter"], shown["scopes"]) == (json.loads(only), ["events", "exports"])
    other = create(site, "other", "--tenant", "acme", "--tenant", "globex", "--project", "p", "--collection", "c")
    answer = site.get("/v1/events/2026-01-02", token=other, headers={"Accept": "application/x-ndjson"})
    assert answer.content == b""
    shown = listed(site, "other")
    assert [shown[part] for part in ("tenants", "projects", "collections")] == [["acme", "globex"], ["p"], ["c"]]
    assert "tenants acme, globex; project p; collection c" in run(site, "list").stdout


def test_a_revoked_key_is_refused_from_the_next_request_on(site: Site) -> None:
    """By its name, its handle or the token itself; a second time is told, and harmless."""
    for number, by in enumerate(("name", "handle", "token")):
        name = f"leaked-{number}"
        token = create(site, name)
        assert site.get("/v1/exports", token=token).status_code == 200
        known = {"name": name, "handle": token.split("_")[1], "token": token}[by]
        done = run(site, "revoke", known)
        assert (done.exit_code, "is revoked" in done.stdout) == (0, True)
        assert site.get("/v1/exports", token=token).status_code == 401
        again = run(site, "revoke", known)
        assert (again.exit_code, "was revoked before" in again.stdout) == (0, True)
        assert run(site, "expire", known, "--never").exit_code == 2
        assert listed(site, name)["state"] == "revoked"


def test_a_keys_end_can_be_moved(site: Site) -> None:
    """Sooner, later, never; each is shown."""
    create(site, "seasonal", "--expires", "90d")
    ends = listed(site, "seasonal")["expires"]
    assert run(site, "expire", "seasonal", "--at", "2999-01-31").exit_code == 0
    assert listed(site, "seasonal")["expires"] == "2999-01-31T00:00:00.000Z" != ends
    assert run(site, "expire", "seasonal", "--at", "2999-01-31T01:00:00+01:00").exit_code == 0
    assert listed(site, "seasonal")["expires"] == "2999-01-31T00:00:00.000Z"
    assert run(site, "expire", "seasonal", "--in", "1h30m").exit_code == 0
    assert run(site, "expire", "seasonal", "--never").exit_code == 0
    assert listed(site, "seasonal")["expires"] is None


def test_a_name_that_several_bear_is_not_guessed(site: Site) -> None:
    """Those in use count; the handles are named."""
    tokens = [create(site, "twin") for _ in range(2)]
    done = run(site, "revoke", "twin")
    assert done.exit_code == 2
    assert all(token.split("_")[1] in done.stderr for token in tokens)
    assert run(site, "revoke", tokens[0].split("_")[1]).exit_code == 0
    assert run(site, "revoke", "twin").exit_code == 0
    assert [site.get("/v1/exports", token=token).status_code for token in tokens] == [401, 401]


def test_nothing_that_is_listed_is_a_secret(site: Site) -> None:
    """Neither as a table nor as JSON; the ledger holds a hash only."""
    secret = create(site, "quiet").split("_")[2]
    assert secret[:20] not in run(site, "list").stdout + run(site, "list", "--json").stdout
    # By another process: closing a file of SQLite's would end the locks that this process holds on it.
    held = subprocess.run(["cat", *(site.home / "state").glob("ledger.db*")], capture_output=True, check=True).stdout
    assert secret[:43].encode() not in held


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("create",), "NAME"),
        (("create", "x", "--scope", "root"), "root"),
        (("create", "x", "--filter", "{"), "not JSON"),
        (("create", "x", "--filter", '{"field": "a", "near": 1}'), "near"),
        (("create", "x", "--filter", "[" * 10_000), "not JSON"),
        (("create", "x", "--expires", "soon"), "soon"),
        (("create", "x", "--expires", "2020-01-01"), "is over"),
        (("create", "x", "--expires", "2026-02-31"), "2026-02-31"),
        (("create", "x", "--expires", "0s"), "is over"),
        (("create", "x\ny"), "name"),
        (("create", "a:b"), "colon"),
        (("create", "x", "--tenant", ""), "tenant"),
        (("revoke", "nobody"), "nobody"),
        (("expire", "nobody", "--in", "1d"), "nobody"),
        (("expire", "nobody"), "--never"),
        (("expire", "nobody", "--in", "1d", "--never"), "--never"),
    ],
)
def test_wrong_usage_is_told_and_makes_nothing(site: Site, args: tuple[str, ...], word: str) -> None:
    """Exit 2, the word that is wrong, nothing on standard output."""
    before = run(site, "list", "--json").stdout
    done = run(site, *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert word in done.stderr
    assert run(site, "list", "--json").stdout == before


def test_signing_can_be_rotated_beside_the_server(site: Site) -> None:
    """Only its user can read what it makes."""
    for flags, words in (((), "30 days more"), (("--forget",), "void")):
        done = run(site, "rotate-signing", *flags)
        assert (done.exit_code, words in done.stdout) == (0, True)
    path = site.home / "state" / "keyring.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(path.read_text())["keys"]) == 1


def test_without_a_ledger_it_says_what_to_do_first(tmp_path: Path) -> None:
    """No key is made that nobody would know of."""
    (tmp_path / "store").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[pull]\nenabled = true\n[[sources]]\nname = "e"\nurl = "{tmp_path}/store"\n'
    )
    for args in (("create", "x"), ("list",), ("revoke", "x"), ("rotate-signing",)):
        done = run(config, *args)
        assert (done.exit_code, done.stdout) == (78, "")
        assert "eventferry once" in done.stderr
    assert not (tmp_path / "state").exists()


def test_the_help_shows_an_example() -> None:
    """Which is longer than a sentence."""
    shown = CliRunner().invoke(program, ["keys", "create", "--help"]).output
    assert "eventferry keys create nightly-report --owner ana" in shown
