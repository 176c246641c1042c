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


def test_a_configuration_of_ones_own_keeps_its_state_beside_it(tmp_path: Path) -> None:
    """Whoever is not root cannot write to /var/lib, and two private files do not share a ledger."""
    folder = tmp_path / 'my "own" place'
    code, said = init("--path", str(folder / "config.toml"))
    assert code == 0
    assert load(folder / "config.toml").state_dir == folder / "state"
    assert f"{folder}/state" in said
    assert "'" in said.split("--config ")[1]  # quoted for the shell
    assert init("--path", str(folder / "other.toml"))[0] == 0
    assert load(folder / "other.toml").state_dir == folder / "other-state"
    assert not [each for each in load(folder / "config.toml").sinks if "/var/lib" in str(each.options)]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Wrong usage with a remedy, forced or not, and nothing is left behind; so is a path below a file."""
    for args in ([], ["--force"]):
        code, said = init("--path", str(tmp_path), *args)
        assert code == 2
        assert f"{tmp_path}/config.toml" in said
    (tmp_path / "file").write_text("")
    assert init("--path", str(tmp_path / "file" / "config.toml"))[0] == 2
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
