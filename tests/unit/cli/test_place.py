"""Where an installation is, even if its configuration is broken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.cli.place import DEFAULT_STATE, _read_leniently, find_place
from eventferry.errors import ConfigError


@pytest.mark.parametrize("broken", ["", "x = [\n", '[[sources]\nname = "a"\n', 'name = "unclosed\n'])
def test_a_broken_configuration_still_tells_where_the_state_is(tmp_path: Path, broken: str) -> None:
    """`reload` reaches the daemon after a bad edit: it is the daemon that refuses, and alerts."""
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "/srv/state"\n{broken}')
    assert find_place(config).state_dir == Path("/srv/state")
    assert find_place(config).ledger == Path("/srv/state/ledger.db")


@given(st.text())
def test_whatever_follows_it(rest: str) -> None:
    """No text below the line hides it."""
    found = _read_leniently('state_dir = "/srv/state"\n\n' + rest)[0]
    assert found.startswith("/") or "state_dir" in rest


def test_a_state_dir_below_a_table_is_another_one() -> None:
    """An option of a sink is not the daemon's."""
    assert _read_leniently('[[sinks]]\nstate_dir = "/elsewhere"\nx = [\n') == ("", "")


def test_without_a_word_about_it_systemd_or_the_default_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same order as the daemon's own."""
    config = tmp_path / "config.toml"
    config.write_text('[ledger]\nurl = "sqlite:////srv/l.db"\n')
    assert find_place(config).state_dir == DEFAULT_STATE
    assert find_place(config).ledger == Path("/srv/l.db")
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/one:/srv/two")
    assert find_place(config).state_dir == Path("/srv/one")


def test_neither_configuration_nor_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped path is a mistake, not an empty installation."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="there is no such file"):
        find_place(tmp_path / "confg.toml")
