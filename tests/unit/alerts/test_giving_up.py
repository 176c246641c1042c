"""A process whose ledger is broken says so once, and ends whatever happens."""

import os

import pytest

from eventferry.alerts import giving_up
from eventferry.alerts.channels import ChannelError
from eventferry.errors import LedgerBrokenError

ERROR = LedgerBrokenError("ledger /srv/ledger.db: disk I/O error in a sync")


class Ended(BaseException):
    """In place of the end of the process."""


class Kept:
    """A channel that keeps what it is sent."""

    name = "kept"

    def __init__(self) -> None:
        self.sent = []

    def send(self, message):
        self.sent.append(message)


class Failing(Kept):
    name = "failing"

    def send(self, message):
        raise ChannelError("no route")


@pytest.fixture
def end(monkeypatch):
    """Give up with these channels; the exit code."""

    def exit_(code):
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", exit_)

    def run(channels, folder):
        with pytest.raises(Ended) as caught:
            giving_up.give_up(ERROR, channels, folder, "blue")
        return caught.value.args[0]

    return run


def test_people_are_told_and_the_process_ends(end, tmp_path):
    """Every channel gets the reason, a failing one keeps no other from it, and systemd may start the service again."""
    kept = Kept()
    assert end(lambda: [Failing(), kept], tmp_path) == 74
    (message,) = kept.sent
    assert (message.event, message.level, message.instance) == ("ledger.broken", "error", "blue")
    assert "disk I/O error" in message.detail


def test_a_disk_that_goes_on_failing_is_told_of_once(end, tmp_path):
    """Ten starts in five minutes are one message; an hour later it is worth another one."""
    kept = Kept()
    for _ in range(3):
        assert end(lambda: [kept], tmp_path) == 74
    assert len(kept.sent) == 1
    os.utime(tmp_path / giving_up.TOLD, (0, 0))
    end(lambda: [kept], tmp_path)
    assert len(kept.sent) == 2


def test_nothing_keeps_the_process_alive(end, tmp_path):
    """Not a configuration without usable channels, nor a state directory that cannot be written."""

    def broken():
        raise RuntimeError("no channels")

    assert end(broken, tmp_path / "missing") == 74
