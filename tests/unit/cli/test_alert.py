"""Trying the ways by which people are told."""

import pytest
from tests.receivers import Reply, http_receiver
from tests.unit.cli.conftest import Site

CHANNEL = '[[alerts.channels]]\nname = "ops"\ntype = "webhook"\nurl = "{url}"\n'


def test_a_test_message_goes_through_each_channel(site: Site) -> None:
    """It arrives, and the command says so."""
    with http_receiver() as receiver:
        site.configure(more=CHANNEL.format(url=receiver.url))
        shown = site.run("alert", "test")
        (request,) = receiver.wait_for(1)
    assert shown.exit_code == 0, shown.output
    assert "✓ ops took the message" in shown.output
    assert request.json()["kind"] == "test"


def test_a_channel_that_refuses_is_told_without_its_url(site: Site) -> None:
    """Exit code 1 and the reason; the secret part of the address stays secret."""
    with http_receiver() as receiver:
        receiver.reply = Reply(status=404)
        site.configure(more=CHANNEL.format(url=receiver.url))
        shown = site.run("alert", "test", "--channel", "ops")
    assert shown.exit_code == 1, shown.output
    assert "404" in shown.output
    assert "secretsecretsecret" not in shown.output


@pytest.mark.parametrize("args", [[], ["--channel", "nobody"]])
def test_nobody_to_tell(site: Site, args: list[str]) -> None:
    """No channel, or none of that name."""
    assert site.run("alert", "test", *args).exit_code == 2


def test_a_failure_is_told_even_if_the_configuration_is_broken(site: Site) -> None:
    """The broken configuration is the likeliest reason for the failure."""
    with http_receiver() as receiver:
        site.configure(more=CHANNEL.format(url=receiver.url) + "\n[[sources\nx = [")
        shown = site.run("alert", "failure", "eventferry.service")
        (request,) = receiver.wait_for(1)
    assert shown.exit_code == 0, shown.output
    assert "eventferry.service failed" in request.json()["subject"]


def test_a_failure_that_nobody_heard_of_is_a_failure(site: Site) -> None:
    """systemd shows the alert unit as failed, too."""
    assert site.run("alert", "failure", "eventferry.service").exit_code == 1
