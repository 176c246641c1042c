"""Sends messages to a Slack webhook, or to anything that takes its format."""

import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, SecretStr

from eventferry.alerts.channels.base import Channel, ChannelError, ChannelOptions
from eventferry.alerts.channels.post import knock, post
from eventferry.alerts.message import Message
from eventferry.alerts.render import slack_fallback, slack_payload
from eventferry.sink.options import check_url


def check_secret_url(value: SecretStr) -> SecretStr:
    """`value`, if it is an absolute http(s) URL. Raises ValueError."""
    check_url(value.get_secret_value())
    return value


SecretUrl = Annotated[SecretStr, AfterValidator(check_secret_url)]


class SlackOptions(ChannelOptions):
    """`url` is the webhook's: it is a password."""

    url: SecretUrl
    ca_file: Path | None = None


class SlackChannel(Channel[SlackOptions]):
    """Posts to a Slack webhook."""

    Options: ClassVar[type[ChannelOptions]] = SlackOptions

    def send(self, message: Message) -> None:
        try:
            self._post(slack_payload(message))
        except ChannelError as error:
            if not error.refused:
                raise
            # Receivers that copy Slack's format often know no blocks.
            self._post(slack_fallback(message))

    def check(self) -> str:
        return knock(self.options.url.get_secret_value(), ca_file=self.options.ca_file)

    def _post(self, payload: dict[str, object]) -> None:
        body = json.dumps(payload).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        post(self.options.url.get_secret_value(), body, headers, ca_file=self.options.ca_file)
