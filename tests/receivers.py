"""Small real servers on loopback for tests: an HTTP receiver with scripted answers, and SMTP servers with TLS."""

import email
import email.policy
import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass(frozen=True)
class Request:
    """A request that the receiver got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer of the receiver; `hang` keeps the connection open without one until the receiver closes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hang: bool = False


class HttpReceiver:
    """Records every request; answers from `script` while it lasts, then with `reply`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: deque[Reply] = deque()
        self.reply = Reply()
        self.closing = threading.Event()
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # Its port is bound from the start, so nobody else can take it.
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/services/T000/B000/secretsecretsecret"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; twice is harmless."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def wait_for(self, count: int, seconds: float = 10) -> list[Request]:
        """The requests, once there are `count` of them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
            return list(self.requests)

    def _take(self, request: Request) -> Reply:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
            return self.script.popleft() if self.script else self.reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = receiver._take(Request(self.command, self.path, dict(self.headers), body))
                if reply.hang:
                    receiver.closing.wait(60)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_POST = do_GET = do_PUT = do_HEAD = _answer

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """An HTTP receiver for the time of the block."""
    receiver = HttpReceiver()
    try:
        yield receiver
    finally:
        receiver.close()


USER, PASSWORD = "ferry", "correct horse"


class MailServer:
    """An SMTP server with a login; `security` is starttls, tls or none. `replies` are answers to DATA, then 250."""

    def __init__(self, security: str, directory: Path) -> None:
        self.security = security
        self.letters: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.replies: deque[str] = deque()
        self.was_encrypted: list[bool] = []
        self.logins = 0
        authority = trustme.CA()
        self.ca_file = directory / f"authority-{security}.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self._closed = False
        self._controller = self._make_controller(context)
        self._controller.start()
        self.port: int = self._controller.server.sockets[0].getsockname()[1]

    def _make_controller(self, context: ssl.SSLContext) -> Controller:
        login: dict[str, Any] = {"authenticator": self._check}
        match self.security:
            case "starttls":
                more = {"tls_context": context, "require_starttls": True, "auth_required": True, **login}
            case "tls":  # aiosmtpd does not know that the whole connection is encrypted
                more = {"ssl_context": context, "auth_require_tls": False, **login}
            case _:
                more = {}
        return _AnyPort(self, hostname="127.0.0.1", port=0, **more)

    def close(self) -> None:
        """Stop; twice is harmless."""
        if not self._closed:
            self._closed = True
            self._controller.stop()

    def _check(self, _server: SMTP, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.logins += good
        return AuthResult(success=good, handled=False)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.replies:
            return self.replies.popleft()
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients.append(list(envelope.rcpt_tos))
        self.was_encrypted.append(session.ssl is not None or self.security == "tls")
        return "250 taken"


class _AnyPort(Controller):
    """A controller on a free port: its own connects to the port it was told, which is 0."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(directory: Path, security: str = "starttls") -> Iterator[MailServer]:
    """An SMTP server for the time of the block."""
    server = MailServer(security, directory)
    try:
        yield server
    finally:
        server.close()
