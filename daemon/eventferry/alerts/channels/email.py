"""Sends messages as e-mail through an SMTP server."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from eventferry.alerts.channels.base import Channel, ChannelOptions
from eventferry.alerts.channels.smtp import Address, SmtpOptions, smtp_session
from eventferry.alerts.letter import compose
from eventferry.alerts.message import Message
from eventferry.logs import get_logger

log = get_logger()


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class EmailOptions(SmtpOptions):
    """Where mail goes out, and to whom."""

    to: Annotated[list[Address], BeforeValidator(_as_list), Field(min_length=1)]


class EmailChannel(Channel[EmailOptions]):
    """Sends one letter a message, over one connection each."""

    Options: ClassVar[type[ChannelOptions]] = EmailOptions

    def send(self, message: Message) -> None:
        letter = compose(message, self.options.sender, self.options.to)
        with smtp_session(self.options) as server:
            refused = server.send_message(letter)
        if refused:
            log.warning("alert.partly_refused", channel=self.name, recipients=sorted(refused))

    def check(self) -> str:
        with smtp_session(self.options) as server:
            server.noop()
        login = ", encrypted" if self.options.security != "none" else ""
        login += " and logged in" if self.options.username else ""
        return f"{self.options.address} answers{login}; `eventferry alert test` sends a letter"
