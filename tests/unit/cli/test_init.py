"""The first configuration."""

import stat
from pathlib import Path

from typer.testing import CliRunner

from eventferry.cli.program import program
from eventferry.config import load


def init(*args: str) -> tuple[int, str]:
    shown = CliRunner().invoke(program, ["init", *args])
    return shown.exit_code, shown.output


def test_it_writes_a_short_file_that_loads_and_says_what_is_next(tmp_path: Path) -> None:
    """Twenty lines that work, readable for the owner and the group alone, because secrets will stand in it."""
    path = tmp_path / "etc" / "config.toml"
    code, said = init("--path", str(path))
    assert code == 0
    assert len(path.read_text().splitlines()) <= 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert load(path).sources
    assert f"eventferry --config {path} check" in said
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]


def test_it_never_overwrites_unless_told(tmp_path: Path) -> None:
    """An afternoon's configuration is not lost to a second `init`."""
    path = tmp_path / "config.toml"
    path.write_text("precious")
    assert init("--path", str(path))[0] == 2
    assert path.read_text() == "precious"
    assert init("--path", str(path), "--force")[0] == 0
    assert path.read_text() != "precious"
