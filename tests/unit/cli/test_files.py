"""Files that wait for a person, and what a person can do about them."""

import json

import pytest
from tests.unit.cli.conftest import Site


@pytest.fixture
def stuck(site: Site) -> Site:
    """After a run over a truncated file, one with mostly bad lines, and one with a single bad line."""
    site.put("2024/01/31/01/cut.ndjson.gz", 50, cut=20)
    site.put("2024/01/31/02/bad.ndjson.gz", ["{broken"] * 30 + ['{"n":1}'] * 10)
    site.put("2024/01/31/03/one.ndjson.gz", ['{"n":1}', "{broken"])
    assert site.run("once").exit_code == 1
    return site


def states(site: Site) -> dict[str, str]:
    """Last part of the key → state."""
    found = json.loads(site.run("files", "list", "--json").output)
    return {row["key"].rpartition("/")[2].partition(".")[0]: row["state"] for row in found}


def number_of(site: Site, name: str) -> str:
    found = json.loads(site.run("files", "list", "--json").output)
    return str(next(row["id"] for row in found if name in row["key"]))


def test_list(stuck: Site) -> None:
    """State and reason of each; filters hold."""
    assert states(stuck) == {"a": "indexed", "cut": "quarantined", "bad": "quarantined", "one": "indexed"}
    shown = stuck.run("files", "list", "--state", "quarantined")
    assert "cut.ndjson.gz" in shown.output
    assert "one.ndjson.gz" not in shown.output
    assert "truncated" in shown.output
    assert "files retry" in shown.output
    assert len(json.loads(stuck.run("files", "list", "--json", "--limit", "1").output)) == 1
    assert stuck.run("files", "list", "--source", "nobody").exit_code == 2


def test_only_what_works_is_offered(stuck: Site) -> None:
    """A truncated file cannot be released: it is not said where there is none but such, and said of which else."""
    assert "could be read to its end: bad lines are left out" in stuck.run("files", "list").output
    assert stuck.run("files", "drop", number_of(stuck, "cut"), "--yes").exit_code == 0
    assert "delivers it as it is: bad lines are left out" in stuck.run("files", "list").output
    assert stuck.run("files", "drop", number_of(stuck, "bad"), "--yes").exit_code == 0
    stuck.put("2024/01/31/04/other.ndjson.gz", 50, cut=20)
    assert stuck.run("once").exit_code == 1
    shown = stuck.run("files", "list").output
    assert "files retry" in shown
    assert "files release" not in shown


def test_list_of_bad_lines_shows_samples(stuck: Site) -> None:
    """File, line and reason: enough to find it in the producer."""
    shown = stuck.run("files", "list", "--bad")
    assert "one.ndjson.gz" in shown.output
    assert "line 2: " in shown.output
    found = json.loads(stuck.run("files", "list", "--bad", "--json").output)
    one = next(row for row in found if "one" in row["key"])
    assert (one["bad"], one["lines"], one["samples"][0]["line"]) == (1, 2, 2)


def test_retry_reads_a_mended_file_again(stuck: Site) -> None:
    """By its number; afterwards every sink gets it."""
    stuck.put("2024/01/31/01/cut.ndjson.gz", 50)
    assert stuck.run("files", "retry", number_of(stuck, "cut")).exit_code == 0
    stuck.run("once")
    assert states(stuck)["cut"] in ("indexed", "gone")  # the mended file is another version


def test_retry_all_quarantined(stuck: Site) -> None:
    """All of them at once, and nothing else."""
    assert stuck.run("files", "retry", "--all-quarantined").exit_code == 0
    assert states(stuck) == {"a": "indexed", "cut": "seen", "bad": "seen", "one": "indexed"}


def test_release_delivers_in_spite_of_the_bad_share(stuck: Site) -> None:
    """By a key with *: what is good in it goes out."""
    assert stuck.run("files", "release", "2024/01/31/02/*").exit_code == 0
    stuck.run("once")
    assert states(stuck)["bad"] == "indexed"


def test_release_of_many_leaves_out_what_cannot_be_read(stuck: Site) -> None:
    """One truncated file among those of a pattern does not keep the others from being released, and is named."""
    done = stuck.run("files", "release", "2024/01/31/*")
    assert done.exit_code == 0
    assert "1 file cannot be read to the end" in done.output
    stuck.run("once")
    assert (states(stuck)["bad"], states(stuck)["cut"]) == ("indexed", "quarantined")


def test_drop_asks_first(stuck: Site) -> None:
    """Giving events up takes a yes; without a terminal it takes --yes."""
    number = number_of(stuck, "cut")
    assert stuck.run("files", "drop", number).exit_code == 2
    assert states(stuck)["cut"] == "quarantined"
    assert stuck.run("files", "drop", number, "--yes").exit_code == 0
    assert states(stuck)["cut"] == "dropped"


@pytest.mark.parametrize("args", [["retry"], ["retry", "999"], ["retry", "no/such/key"], ["release"], ["drop"]])
def test_files_that_do_not_wait_cannot_be_acted_on(stuck: Site, args: list[str]) -> None:
    """A wrong number is wrong usage; an indexed file is never indexed twice."""
    assert stuck.run("files", *args).exit_code == 2
    assert stuck.run("files", "retry", number_of(stuck, "one")).exit_code == 2
