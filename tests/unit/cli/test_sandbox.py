"""What of a unit makes its sandbox."""

from pathlib import Path

from eventferry.cli.sandbox import _program, compose_unit, read_properties

UNIT = Path(__file__).parents[3] / "systemd" / "eventferry.service"


def test_the_shipped_units_sandbox_is_taken_over_whole() -> None:
    """User, file system, system calls and directories are those of the service; its life is not."""
    found = list(read_properties(UNIT.read_text()))
    for one in ("User=eventferry", "ProtectSystem=strict", "StateDirectory=eventferry", "PrivateTmp=yes"):
        assert one in found
    assert [one for one in found if one.startswith("SystemCallFilter=")] == [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
    ]
    keys = {one.partition("=")[0] for one in found}
    assert not keys & {"Type", "ExecStart", "ExecReload", "Restart", "WatchdogSec", "RuntimeDirectory", "RemoveIPC"}


def test_drop_ins_come_after_and_lines_go_on() -> None:
    """`systemctl cat` prints unit and drop-ins one after the other; a backslash continues a line."""
    text = """# /etc/systemd/system/eventferry.service
[Unit]
Description=x
[Service]
ExecStart=/opt/venv/bin/eventferry run
ReadWritePaths=/a \\
# not part of it
    /b
# /etc/systemd/system/eventferry.service.d/more.conf
[Service]
LoadCredential=slack:/etc/slack
ReadWritePaths=
[Install]
WantedBy=multi-user.target
"""
    assert list(read_properties(text)) == [
        "ReadWritePaths=/a  /b",
        "LoadCredential=slack:/etc/slack",
        "ReadWritePaths=",
    ]
    assert _program(text) == "/opt/venv/bin/eventferry"


def test_the_command_is_taken_literally() -> None:
    """No path of the operator's is a specifier, a variable or two words to systemd."""
    unit = compose_unit("[Service]\nUser=eventferry\n", ["/opt/e", "a b%n", 'c"\\'], Path("/run/x/output"))
    assert 'ExecStart=:"/opt/e" "a b%%n" "c\\"\\\\"' in unit.splitlines()
    assert "User=eventferry" in unit.splitlines()
