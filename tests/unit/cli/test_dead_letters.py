"""Events that a sink refused, and what a person can do about them."""

import json

import pytest
from tests.scripted import refusing_events, take
from tests.unit.cli.conftest import Site


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
