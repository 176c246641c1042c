"""Posts messages as JSON to any URL, signed if wanted."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from eventferry import clock
from eventferry.alerts.channels.base import Channel, ChannelOptions
from eventferry.alerts.channels.post import knock, post
from eventferry.alerts.channels.slack import SecretUrl
from eventferry.alerts.message import Message
from eventferry.alerts.render import json_payload
from eventferry.sink.options import check_header_name, check_header_value


class WebhookOptions(ChannelOptions):
    """`headers` go with every request; with `secret` it is signed (HMAC-SHA256 of timestamp, a dot, and the body)."""

    url: SecretUrl
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    secret: SecretStr | None = None
    ca_file: Path | None = None

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            check_header_name(name)
            check_header_value(value.get_secret_value())
        return headers


class WebhookChannel(Channel[WebhookOptions]):
    """Posts JSON to a URL."""

    Options: ClassVar[type[ChannelOptions]] = WebhookOptions
    default_level: ClassVar[str] = "warning"

    def send(self, message: Message) -> None:
        payload = json_payload(message)
        body = json.dumps(payload).encode()
        # A repeat of the same message carries the same key.
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(payload["id"])}
        headers |= {name: value.get_secret_value() for name, value in self.options.headers.items()}
        if self.options.secret is not None:
            headers |= sign(self.options.secret.get_secret_value(), body, clock.now_ms() // 1000)
        post(self.options.url.get_secret_value(), body, headers, ca_file=self.options.ca_file)

    def check(self) -> str:
        return knock(self.options.url.get_secret_value(), ca_file=self.options.ca_file)


def sign(secret: str, body: bytes, timestamp: int) -> dict[str, str]:
    """The headers that prove who sent `body`, and when (seconds since the epoch)."""
    signed = str(timestamp).encode() + b"." + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return {"X-Eventferry-Timestamp": str(timestamp), "X-Eventferry-Signature": f"sha256={digest}"}
