"""The unit files as files: valid, hardened, every line with its reason."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.systemd.realsystemd import CHECKOUT

UNITS = ["eventferry.service", "eventferry-alert@.service", "eventferry-api.service"]


@pytest.fixture(autouse=True)
def analyzer() -> None:
    """These tests need systemd's own checker; in CI it must be there."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze must be installed in CI")
        pytest.skip("systemd-analyze is not installed")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def unit_text(name: str) -> str:
    """A shipped unit's text."""
    return (CHECKOUT / "systemd" / name).read_text()


def installed_copy(name: str, directory: Path) -> Path:
    """The unit with a program that exists here in place of the installed one, so that only the unit is judged."""
    for unit in UNITS:  # all: OnFailure= and Wants= must find the others
        text = unit_text(unit).replace("/opt/eventferry/venv/bin/eventferry", "/bin/true")
        (directory / unit).write_text(text)
    return directory / name


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    """systemd knows every key and value of the shipped units."""
    done = analyze("verify", str(installed_copy(name, tmp_path)))
    complaints = [line for line in done.stderr.splitlines() if "eventferry" in line]  # not about the host's own units
    assert (done.returncode, complaints) == (0, [])


def test_the_checker_would_notice_an_unknown_key(tmp_path: Path) -> None:
    """The test above is not vacuous: a misspelt key shows up in what it looks at."""
    unit = installed_copy("eventferry.service", tmp_path)
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPriviliges="))
    assert re.search("Unknown key.* 'NoNewPriviliges'", analyze("verify", str(unit)).stderr)


@pytest.mark.parametrize("name", UNITS)
def test_exposure_is_at_most_one_and_a_half(name: str) -> None:
    """The sandbox stays tight: systemd's own score is 1.5 or better."""
    done = analyze("security", "--offline=yes", "--threshold=15", str(CHECKOUT / "systemd" / name))
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", UNITS)
def test_every_directive_has_its_reason_above(name: str) -> None:
    """Nobody has to guess why a switch is set: the line above says it, in a sentence of its own."""
    lines = unit_text(name).splitlines()
    assigned = [number for number, line in enumerate(lines) if re.match(r"\w+=", line)]
    assert len(assigned) > 30
    without = [lines[number] for number in assigned if not re.match(r"# \S.{8,}", lines[number - 1])]
    assert without == []


@pytest.mark.parametrize("name", UNITS)
def test_no_credential_is_demanded_by_the_shipped_unit(name: str) -> None:
    """A missing credential file stops a start, so the shipped units load none."""
    assert not re.search(r"^LoadCredential", unit_text(name), re.MULTILINE)


def test_all_units_share_one_sandbox() -> None:
    """A switch added to the daemon's sandbox is added to the alert's and the server's as well."""

    def sandbox(name: str) -> list[str]:
        text = unit_text(name).partition("# --- What it may see and touch")[2].partition("[Install]")[0]
        return [line for line in text.splitlines() if re.match(r"\w+=", line)]

    assert sandbox(UNITS[0]) == sandbox(UNITS[1]) == sandbox(UNITS[2]) != []
