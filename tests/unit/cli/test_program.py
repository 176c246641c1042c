"""How the program introduces itself, and how its commands end."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from tests.unit.cli.conftest import Site
from typer.testing import CliRunner

from eventferry import __version__
from eventferry.cli.program import Program, program
from eventferry.errors import ConfigError, EventferryError, LedgerBusyError, LedgerError, UsageError

COMMANDS = ("init", "check", "sinks", "alert", "config", "run", "once", "status", "pause", "resume", "reload", "replay")
COMMANDS += ("rename", "prune", "files", "dead-letters")


def ending_with(error: Exception) -> typer.Typer:
    """The program with one command, which raises this."""
    made = typer.Typer(cls=Program, rich_markup_mode=None, pretty_exceptions_enable=False)

    @made.callback()
    def options(debug: bool = False) -> None:
        pass

    @made.command()
    def fail() -> None:
        raise error

    return made


def test_help_names_every_command_and_every_exit_code() -> None:
    """Whoever knows --help knows what there is, and what scripts may rely on."""
    shown = CliRunner().invoke(program, ["--help"])
    assert shown.exit_code == 0, shown.output
    for command in COMMANDS:
        assert f"\n  {command} " in shown.output
    for code in ("0 ", "1 ", "2 ", "75", "78"):
        assert f"\n    {code}" in shown.output


def test_help_is_answered_without_the_machinery() -> None:
    """--help imports neither SQLAlchemy nor pydantic nor rich: that is why it is quick."""
    code = "import sys; from eventferry.cli import main\ntry: main()\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "typer" in modules
    assert not modules & {"sqlalchemy", "pydantic", "rich", "structlog", "apscheduler", "requests", "alembic"}


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Of processor time, so that a busy machine does not decide."""
    costs = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-m", "eventferry", "--help"], stdout=subprocess.DEVNULL) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        costs.append(used.ru_utime + used.ru_stime)
    assert min(costs) < 0.3


def test_version() -> None:
    """--version says which one it is."""
    assert CliRunner().invoke(program, ["--version"]).output == f"eventferry {__version__}\n"


@pytest.mark.parametrize("args", [["nonsense"], ["pause"], ["files", "list", "--state", "odd"], ["status", "--nope"]])
def test_wrong_usage_ends_with_2(site: Site, args: list[str]) -> None:
    """A command line that means nothing is told apart from a command that failed."""
    assert site.run(*args).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EventferryError("it failed"), 1),
        (UsageError("it failed"), 2),
        (LedgerBusyError("it failed"), 75),
        (LedgerError("it failed"), 78),
        (ConfigError("it failed", "and so did this"), 78),
        (RuntimeError("it failed"), 1),
    ],
)
def test_errors_are_sentences_with_an_exit_code(error: Exception, code: int) -> None:
    """No error of a command shows a traceback; each says what is wrong on standard error, and nothing elsewhere."""
    shown = CliRunner().invoke(ending_with(error), ["fail"])
    assert shown.exit_code == code
    assert shown.stdout == ""
    assert "✗" in shown.stderr
    assert "it failed" in shown.stderr
    assert "Traceback" not in shown.stderr
    if isinstance(error, ConfigError):
        assert "✗ and so did this" in shown.stderr


def test_a_bug_is_one_line_until_somebody_asks() -> None:
    """--debug shows where an unexpected exception came from; without it one line says how to ask."""
    broken = ending_with(RuntimeError("amount\nand much more"))
    short, long = (CliRunner().invoke(broken, args) for args in (["fail"], ["--debug", "fail"]))
    assert "--debug" in short.stderr
    assert short.stderr.count("\n") == 1
    assert "Traceback" in long.stderr


def test_errors_in_the_journal_carry_their_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """`journalctl -p err` finds why a start failed."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    shown = CliRunner().invoke(ending_with(ConfigError("first", "second")), ["fail"])
    assert shown.stderr == "<3>first\n<3>second\n"


def before(path: Path) -> tuple[list[str], dict[str, str]]:
    return ["--config", str(path), "config", "show"], {}


def after(path: Path) -> tuple[list[str], dict[str, str]]:
    return ["config", "show", "--config", str(path)], {}


def by_environment(path: Path) -> tuple[list[str], dict[str, str]]:
    return ["config", "show"], {"EVENTFERRY_CONFIG": str(path)}


@pytest.mark.parametrize("way", [before, after, by_environment])
def test_the_configuration_is_named_in_three_ways(
    site: Site, way: Callable[[Path], tuple[list[str], dict[str, str]]]
) -> None:
    """Before the command, after it, or in the environment: the same file is meant."""
    args, environment = way(site.config)
    shown = CliRunner().invoke(program, args, env=environment)
    assert shown.exit_code == 0, shown.output
    assert f'state_dir = "{site.state}"' in shown.output


def test_every_mistake_is_told_at_once(site: Site) -> None:
    """Nobody mends a configuration one mistake at a time."""
    site.configure(source='interval = "soon"\nmax_files = 0', top="colour = 1")
    shown = site.run("check")
    assert shown.exit_code == 78
    assert [word in shown.stderr for word in ("interval", "max_files", "colour")] == [True] * 3
    assert shown.stderr.count("✗") == 3


def test_secrets_are_never_printed(site: Site) -> None:
    """Neither as a setting, nor in JSON, nor in what a broken store says about its password."""
    site.configure(more='[[alerts.channels]]\ntype = "slack"\nurl = "https://hooks.example.com/T0/hidden-token-1"\n')
    for args in (["config", "show"], ["config", "show", "--json"], ["check"], ["once"], ["status"]):
        shown = site.run(*args)
        assert shown.exit_code == 0, shown.output
        assert "hidden-token-1" not in shown.output
    assert "***" in site.run("config", "show").output


def test_the_example_is_shipped() -> None:
    """`config example` prints every option there is."""
    shown = CliRunner().invoke(program, ["config", "example"])
    assert shown.exit_code == 0, shown.output
    assert "# max_files = 100" in shown.output
