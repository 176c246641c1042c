"""Sends messages as e-mail through an SMTP server."""

import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from eventferry.alerts.channels.base import DEADLINE_S, Channel, ChannelError, ChannelOptions
from eventferry.alerts.letter import compose
from eventferry.alerts.message import Message
from eventferry.logs import get_logger
from eventferry.sink.safe import safe_text

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS = re.compile(r"(?:[^<>\x00-\x1f\x7f]*<)?([!-;=?A-Z^-~]+@[A-Za-z0-9.-]+|[a-z_][a-z0-9_-]*)>?")
_HOST = re.compile(r"[A-Za-z0-9.:-]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

log = get_logger()


def _check_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or value.count("<") != value.count(">"):
        raise ValueError("is not an e-mail address; expected name@example.org or Name <name@example.org>")
    return value


def _check_host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("is not the name of a host; expected mail.example.org")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_check_address)]


class EmailOptions(ChannelOptions):
    """Where mail goes out. `port` follows `security` (587, 465, 25) where it is not given."""

    host: Annotated[str, AfterValidator(_check_host)]
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: Address = Field(alias="from")
    to: Annotated[list[Address], BeforeValidator(_as_list), Field(min_length=1)]
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _check_login(self) -> "EmailOptions":
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; give both or neither")
        if self.password is not None and self.security == "none" and self.host not in _LOOPBACK:
            raise ValueError('security = "none" would send the password unencrypted; expected "starttls" or "tls"')
        return self


class EmailChannel(Channel[EmailOptions]):
    """Sends one letter a message, over one connection each."""

    Options: ClassVar[type[ChannelOptions]] = EmailOptions

    def send(self, message: Message) -> None:
        letter = compose(message, self.options.sender, self.options.to)
        with self._session() as server:
            refused = server.send_message(letter)
        if refused:
            log.warning("alert.partly_refused", channel=self.name, recipients=sorted(refused))

    def check(self) -> str:
        with self._session() as server:
            server.noop()
        login = ", encrypted" if self.options.security != "none" else ""
        login += " and logged in" if self.options.username else ""
        return f"{self.options.host}:{self._port} answers{login}; `eventferry alert test` sends a letter"

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        """A connection that is ready for letters. Raises ChannelError for whatever goes wrong inside the block."""
        who = f"{self.options.host}:{self._port}"
        try:
            server = self._connect()
            try:
                yield server
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()  # the letter is taken: a bad farewell must not send it again
            finally:
                server.close()
        except smtplib.SMTPAuthenticationError as error:
            raise ChannelError(f"{who} refuses the login: {self._words(error.smtp_error)}") from None
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            raise ChannelError(f"{who} refuses all recipients: {code} {self._words(words)}") from None
        except smtplib.SMTPResponseException as error:
            # 5xx to the data means this letter; to anything earlier, the way.
            refused = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
            text = f"{who} answered {error.smtp_code} {self._words(error.smtp_error)}"
            raise ChannelError(text, refused=refused) from None
        except ssl.SSLCertVerificationError as error:
            text = f"{who}: its certificate cannot be verified ({error.verify_message}); see ca_file"
            raise ChannelError(text) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise ChannelError(f"{who}: {self._words(str(error) or type(error).__name__)}") from None

    @property
    def _port(self) -> int:
        return self.options.port or _PORTS[self.options.security]

    def _connect(self) -> smtplib.SMTP:
        # Without a name smtplib asks the DNS for one, however long that takes.
        me = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname()) or "localhost"
        options, port = self.options, self._port
        if options.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(options.host, port, me, timeout=DEADLINE_S, context=self._context())
        else:
            server = smtplib.SMTP(options.host, port, me, timeout=DEADLINE_S)
        try:
            if options.security == "starttls":
                server.starttls(context=self._context())
            if options.username is not None and options.password is not None:
                server.login(options.username, options.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.options.ca_file)

    def _words(self, text: str | bytes) -> str:
        password = self.options.password
        return safe_text(text, 200, [password.get_secret_value()] if password else [])
