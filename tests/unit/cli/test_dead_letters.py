"""Events that a sink refused, and what a person can do about them."""

import json
import threading

import pytest
from tests.scripted import refusing_events, take, unavailable
from tests.unit.cli.conftest import Site

from eventferry import app
from eventferry.cli import retrying
from eventferry.ledger import dead_letters, facts
from eventferry.service import carry_out


@pytest.fixture
def refused(site: Site) -> Site:
    """After a run in which the sink refused two of three events."""
    site.configure("odd")
    site.script.behave = refusing_events(b'"n": 1')
    site.put("2024/01/31/00/a.ndjson.gz", ['{"n": 0}', '{"n": 1}', '{"n": 1, "second": true}'])
    assert site.run("once").exit_code == 1
    return site


def numbers(site: Site) -> list[str]:
    return sorted(str(row["id"]) for row in json.loads(site.run("dead-letters", "list", "--json").output))


def test_list_and_show(refused: Site) -> None:
    """Place, reason and bytes: enough to mend it at either end."""
    assert len(numbers(refused)) == 2
    shown = refused.run("dead-letters", "list", "--sink", "odd")
    assert "a.ndjson.gz:2" in shown.output
    assert "no such type" in shown.output
    one = refused.run("dead-letters", "show", numbers(refused)[0])
    assert one.stdout == '{"n": 1}\n'
    assert "a.ndjson.gz:2" in one.stderr
    assert refused.run("dead-letters", "show", "999").exit_code == 2
    assert refused.run("dead-letters", "list", "--sink", "nobody").exit_code == 2


def test_retry_one_and_all(refused: Site) -> None:
    """Once the sink takes them they are sent, and no longer wait."""
    refused.script.behave = take
    assert refused.run("dead-letters", "retry", numbers(refused)[0]).exit_code == 0
    refused.run("once")
    assert len(numbers(refused)) == 1
    assert refused.run("dead-letters", "retry", "--all", "--sink", "odd").exit_code == 0
    assert refused.run("once").exit_code == 0
    assert numbers(refused) == []
    assert b'{"n": 1, "second": true}' in [line.strip() for line in refused.script.lines()]


def test_drop_takes_a_yes(refused: Site) -> None:
    """Bytes are deleted only after a yes."""
    assert refused.run("dead-letters", "drop", "--all", "--sink", "odd").exit_code == 2
    assert len(numbers(refused)) == 2
    assert refused.run("dead-letters", "drop", "--all", "--sink", "odd", "--yes").exit_code == 0
    assert numbers(refused) == []


@pytest.mark.parametrize("args", [[], ["--all"], ["--sink", "odd"], ["999"], ["1", "--all", "--sink", "odd"]])
def test_it_must_be_said_which(refused: Site, args: list[str]) -> None:
    """Half a choice is wrong usage, not all of them."""
    assert refused.run("dead-letters", "retry", *args).exit_code == 2
    assert refused.run("dead-letters", "drop", "--yes", *args).exit_code == 2


def test_none(used: Site) -> None:
    """An empty list is good news."""
    assert "no dead letters" in used.run("dead-letters", "list").output


def test_a_vanished_file_that_is_back_can_be_delivered(site: Site) -> None:
    """There are no bytes to send again; the command that is named instead delivers the file, once it is there."""
    site.configure("odd", source='gone_after = "0s"')
    site.script.behave = unavailable()
    site.run("once")
    (path,) = site.store.rglob("*.gz")
    path.rename(site.root / path.name)
    site.script.behave = take
    for _ in range(10):
        site.run("resume", "odd")
        site.run("once")
        if numbers(site):
            break
    (number,) = numbers(site)
    listed = site.run("dead-letters", "list").output
    assert "--missing   delivers it" in listed
    assert "dead-letters retry" not in listed
    shown = site.run("dead-letters", "retry", number)
    assert shown.exit_code == 2
    replay = "replay --sink odd --from 2024-01-31 --to 2024-01-31 --missing"
    said = f"if the file is there again, `eventferry --config {site.config} {replay}` delivers it, otherwise"
    assert said in shown.stderr
    assert f"dead-letters drop {number}` ends it" in shown.stderr
    assert replay in site.run("dead-letters", "retry", "--all", "--sink", "odd").output
    (site.root / path.name).rename(path)
    assert site.run(*replay.split(" "), "--yes").exit_code == 0
    assert site.run("once").exit_code == 0
    assert len(site.script.lines()) == 3
    assert numbers(site) == []


def test_retry_without_a_daemon_says_that_nothing_is_sent_yet(refused: Site) -> None:
    """And by what it is; `once` then says what came of it, refused again or delivered."""
    shown = refused.run("dead-letters", "retry", numbers(refused)[0])
    assert "1 dead letter is marked to be sent again" in shown.output
    assert f"eventferry --config {refused.config} once" in shown.output
    again = refused.run("once")
    assert again.exit_code == 1
    assert "1 dead letter sent again and refused again" in again.output
    refused.script.behave = take
    refused.run("dead-letters", "retry", "--all", "--sink", "odd")
    assert "2 dead letters sent again and delivered" in refused.run("once").output


@pytest.mark.parametrize("outcome", ["delivered", "waiting", "retrying"])
def test_retry_with_a_daemon_says_what_came_of_it(refused: Site, monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    """The command waits a moment for the sink's answer, and says where to look if there is none."""
    monkeypatch.setattr(retrying, "OUTCOME_SECONDS", 10.0 if outcome != "retrying" else 0.2)
    number = int(numbers(refused)[0])
    ledger, done = refused.ledger(), threading.Event()

    def serve() -> None:
        while not done.wait(0.02):
            carry_out.carry_out(ledger, None)
            with ledger.write() as tx:
                if outcome == "delivered":
                    dead_letters.set_state(tx, facts.retrying_letters(tx), "delivered", drop_body=True)
                elif outcome == "waiting":
                    for each in facts.retrying_letters(tx):
                        dead_letters.refuse_again(tx, each, "no such type")

    thread = threading.Thread(target=serve)
    with app.own_state(refused.state, wait=False):
        thread.start()
        try:
            shown = refused.run("dead-letters", "retry", str(number))
        finally:
            done.set()
            thread.join()
            ledger.close()
    words = {"delivered": "sent again and delivered", "waiting": "refused again", "retrying": "still to be sent again"}
    assert f"1 dead letter {words[outcome]}" in shown.output.replace("sent again and refused", "refused")
    assert shown.exit_code == (1 if outcome == "waiting" else 0)
    assert ("dead-letters list --sink odd" in shown.output) == (outcome != "delivered")
