"""A session with an SMTP server, for whoever has a letter to send: alerts, and what exports tell people."""

import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.alerts.channels.base import DEADLINE_S, ChannelError, ChannelOptions
from eventferry.sink.safe import safe_text

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS = re.compile(r"(?:[^<>\x00-\x1f\x7f]*<)?([!-;=?A-Z^-~]+@[A-Za-z0-9.-]+|[a-z_][a-z0-9_-]*)>?")
_HOST = re.compile(r"[A-Za-z0-9.:-]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_address(value: str) -> str:
    """The address as it is, with or without a name before it. Raises ValueError."""
    if not _ADDRESS.fullmatch(value) or value.count("<") != value.count(">"):
        raise ValueError("is not an e-mail address; expected name@example.org or Name <name@example.org>")
    return value


def _check_host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("is not the name of a host; expected mail.example.org")
    return value


Address = Annotated[str, AfterValidator(check_address)]


class SmtpOptions(ChannelOptions):
    """Where mail goes out. `port` follows `security` (587, 465, 25) where it is not given."""

    host: Annotated[str, AfterValidator(_check_host)]
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: Address = Field(alias="from")
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _check_login(self) -> "SmtpOptions":
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; give both or neither")
        if self.password is not None and self.security == "none" and self.host not in _LOOPBACK:
            raise ValueError('security = "none" would send the password unencrypted; expected "starttls" or "tls"')
        return self

    @property
    def address(self) -> str:
        """Host and port, to name the server with."""
        return f"{self.host}:{self.port or _PORTS[self.security]}"


@contextmanager
def smtp_session(options: SmtpOptions) -> Iterator[smtplib.SMTP]:
    """A connection that is ready for letters. Raises ChannelError for whatever goes wrong inside the block."""
    who = options.address

    def words(text: str | bytes) -> str:
        password = options.password
        return safe_text(text, 200, [password.get_secret_value()] if password else [])

    try:
        server = _connect(options)
        try:
            yield server
            with suppress(smtplib.SMTPException, OSError):
                server.quit()  # the letter is taken: a bad farewell must not send it again
        finally:
            server.close()
    except smtplib.SMTPAuthenticationError as error:
        raise ChannelError(f"{who} refuses the login: {words(error.smtp_error)}") from None
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise ChannelError(f"{who} refuses all recipients: {code} {words(said)}") from None
    except smtplib.SMTPResponseException as error:
        # 5xx to the data means this letter; to anything earlier, the way.
        refused = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
        text = f"{who} answered {error.smtp_code} {words(error.smtp_error)}"
        raise ChannelError(text, refused=refused) from None
    except ssl.SSLCertVerificationError as error:
        text = f"{who}: its certificate cannot be verified ({error.verify_message}); see ca_file"
        raise ChannelError(text) from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise ChannelError(f"{who}: {words(str(error) or type(error).__name__)}") from None


def _connect(options: SmtpOptions) -> smtplib.SMTP:
    # Without a name smtplib asks the DNS for one, however long that takes.
    me = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname()) or "localhost"
    port = options.port or _PORTS[options.security]
    if options.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(options.host, port, me, timeout=DEADLINE_S, context=_context(options))
    else:
        server = smtplib.SMTP(options.host, port, me, timeout=DEADLINE_S)
    try:
        if options.security == "starttls":
            server.starttls(context=_context(options))
        if options.username is not None and options.password is not None:
            server.login(options.username, options.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def _context(options: SmtpOptions) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=options.ca_file)
