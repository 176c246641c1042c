"""Sends messages to further services (Teams, Telegram, ntfy, PagerDuty, …) through the Apprise library."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, SecretStr

from eventferry import installing
from eventferry.alerts.channels.base import Channel, ChannelError, ChannelOptions
from eventferry.alerts.message import Message
from eventferry.alerts.phrases import heading
from eventferry.alerts.render import plain_text
from eventferry.errors import ConfigError

_TYPES = {"error": "failure", "warning": "warning"}


class AppriseOptions(ChannelOptions):
    """`urls` in Apprise's notation, such as ntfy://topic; each is a password."""

    urls: Annotated[list[SecretStr], Field(min_length=1)]


class AppriseChannel(Channel[AppriseOptions]):
    """Hands each message to Apprise, which sends it to every one of `urls`."""

    Options: ClassVar[type[ChannelOptions]] = AppriseOptions

    def __init__(self, options: AppriseOptions, name: str = "") -> None:
        super().__init__(options, name)
        self._apprise = _load(options, name)

    def send(self, message: Message) -> None:
        kind = {"recovered": "success", "over": "info"}.get(message.kind) or _TYPES.get(message.level, "info")
        title = f"[{message.instance}] {heading(message)}"
        if not self._apprise.notify(title=title, body=plain_text(message), notify_type=kind, body_format="text"):
            raise ChannelError("one of the services did not take the message; Apprise's own words are in the log")


def _load(options: AppriseOptions, name: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            f"alerts.channels.{name}.type: 'apprise' needs the apprise library; run:"
            f" {installing.command('eventferry[notify]')}"
        ) from None
    found = apprise.Apprise()
    bad = [
        f"alerts.channels.{name}.urls.{index}: Apprise cannot read this URL; see its documentation of services"
        for index, url in enumerate(options.urls)
        if not found.add(url.get_secret_value())
    ]
    if bad:
        raise ConfigError(*bad)
    return found
