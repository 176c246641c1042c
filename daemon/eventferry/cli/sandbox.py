"""Checks inside the sandbox of the installed systemd unit: the same user, the same view of the file system."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from eventferry.errors import EventferryError

UNIT = "eventferry.service"
_UNITS = Path("/run/systemd/system")

# What is about the daemon's life rather than its view of the world, or would take away what the running one uses.
_LEFT_OUT = frozenset(
    """
    Type NotifyAccess PIDFile BusName FileDescriptorStoreMax KillMode KillSignal OOMPolicy SyslogIdentifier
    ExecStart ExecStartPre ExecStartPost ExecReload ExecStop ExecStopPost ExecCondition
    Restart RestartSec RestartPreventExitStatus RestartForceExitStatus SuccessExitStatus
    TimeoutStartSec TimeoutStopSec TimeoutAbortSec TimeoutSec WatchdogSec WatchdogSignal
    StandardOutput StandardError StandardInput
    RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve RemoveIPC
    """.split()  # noqa: SIM905
)


def check_in_sandbox(config: Path, source: str | None, sink: str | None) -> int:
    """Run `eventferry check` as the unit would run it; its exit code. Raises EventferryError where that cannot be."""
    if shutil.which("systemctl") is None:
        raise EventferryError("--as-service needs systemd, and there is no systemctl here; `eventferry check` works")
    if os.geteuid() != 0:
        raise EventferryError(
            "--as-service needs root, to become the service's user: sudo eventferry check --as-service"
        )
    text = _unit_text()
    command = [_program(text), "--config", str(config), "check"]
    command += ["--source", source] if source else []
    command += ["--sink", sink] if sink else []
    # Beside the unit, not with systemd-run: that needs a message bus, and this only systemd.
    name = f"eventferry-check-{os.getpid()}.service"
    unit = _UNITS / name
    with tempfile.TemporaryDirectory(prefix="eventferry-check-", dir="/run") as folder:
        output = Path(folder, "output")
        unit.write_text(compose_unit(text, command, output), encoding="utf-8")
        try:
            _systemctl("daemon-reload")
            started = _systemctl("start", name)
            said = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
            code = _systemctl("show", "--property=ExecMainStatus", "--value", name).stdout.strip()
        finally:
            unit.unlink()
            _systemctl("reset-failed", name)
            _systemctl("daemon-reload")
    if not said:
        raise EventferryError(f"systemd could not start the check: {started.stderr.strip()}; see journalctl -u {name}")
    sys.stdout.write(said)
    return int(code)


def compose_unit(text: str, command: Sequence[str], output: Path) -> str:
    """Pure: a unit with the sandbox of the installed one that runs this command and writes into that file."""
    quoted = " ".join('"' + each.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"' for each in command)
    lines = ["[Service]", *read_properties(text), "Type=oneshot", "TimeoutStartSec=infinity", f"ExecStart=:{quoted}"]
    return "\n".join([*lines, f"StandardOutput=append:{output}", f"StandardError=append:{output}", ""])


def _systemctl(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemctl", *args], capture_output=True, check=False, text=True, errors="replace")  # noqa: S603, S607


def _unit_text() -> str:
    done = _systemctl("cat", "--no-pager", UNIT)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise EventferryError(
            f"{UNIT} cannot be read ({said[0] if said else 'systemctl failed'}); install the unit first, "
            "see docs/operations.md"
        )
    return done.stdout


def read_properties(text: str) -> Iterator[str]:
    """Pure: what `systemctl cat` prints, unit and drop-ins, to the properties of its sandbox: `Key=value`."""
    for key, value in _service_lines(text):
        if key not in _LEFT_OUT:
            yield f"{key}={value}"


def _service_lines(text: str) -> Iterator[tuple[str, str]]:
    section, begun = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        if not begun and line.startswith("["):
            section = line
        if not begun and (not line or line[0] in "#;["):
            continue
        if begun and line[:1] in ("#", ";"):  # a comment between continued lines belongs to neither
            continue
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        key, equals, value = begun.partition("=")
        begun = ""
        if section == "[Service]" and equals:
            yield key.strip(), value.strip()


def _program(text: str) -> str:
    """The program that the unit starts: it may be another installation than this one."""
    found = [value for key, value in _service_lines(text) if key == "ExecStart" and value]
    return found[-1].lstrip("@-:+!").split()[0] if found else "eventferry"
