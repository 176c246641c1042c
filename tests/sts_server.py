"""Stands in for AWS STS: hands out the keys of a role, if the request is signed by whom and asks for what it should."""

import datetime as dt
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl


@dataclass
class StsServer:
    """Who may assume which role, and what it is given."""

    caller: str  # the access key that may ask
    caller_secret: str
    role_arn: str
    external_id: str | None
    access_key: str  # of the role
    secret_key: str
    life: dt.timedelta = dt.timedelta(hours=1)
    endpoint: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """Status and XML."""
        asked = dict(parse_qsl(body.decode()))
        self.asked.append(asked)
        if not self._is_signed(body, headers):
            return 403, _error("SignatureDoesNotMatch")
        wanted = {"Action": "AssumeRole", "RoleArn": self.role_arn, "ExternalId": self.external_id}
        if any(asked.get(name) != value for name, value in wanted.items()) or not asked.get("RoleSessionName"):
            return 403, _error("AccessDenied")
        expires = (dt.datetime.now(dt.UTC) + self.life).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
            f"<AssumedRoleUser><Arn>{self.role_arn}/x</Arn><AssumedRoleId>A:x</AssumedRoleId></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>{self.access_key}</AccessKeyId>"
            f"<SecretAccessKey>{self.secret_key}</SecretAccessKey><SessionToken>token</SessionToken>"
            f"<Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )

    def _is_signed(self, body: bytes, headers: dict[str, str]) -> bool:
        """Sign the request once more, as the caller would, and compare."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        found = re.search(
            r"Credential=([^/]+)/\d+/([^/]+)/sts/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)",
            headers.get("authorization", ""),
        )
        if found is None or found[1] != self.caller:
            return False
        signed = {name: headers[name] for name in found[3].split(";")}
        request = AWSRequest("POST", self.endpoint + "/", headers=signed, data=body)
        request.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(Credentials(self.caller, self.caller_secret), "sts", found[2])
        canonical = signer.canonical_request(request)
        return bool(signer.signature(signer.string_to_sign(request, canonical), request) == found[4])


@contextmanager
def sts_server(server: StsServer) -> Iterator[StsServer]:
    """Serves it on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = server.answer(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *parts: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.endpoint = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def _error(code: str) -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>not for {code}</Message></Error></ErrorResponse>"
    )
