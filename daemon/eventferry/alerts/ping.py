"""Calls a dead-man URL: somebody else's clock that raises the alarm when eventferry falls silent."""

from eventferry.alerts.channels.base import DEADLINE_S, ChannelError
from eventferry.alerts.channels.post import call
from eventferry.sink.safe import safe_url


def ping(url: str, timeout: float = DEADLINE_S) -> None:
    """GET `url`; call it only after verified progress. Raises ChannelError, which is for the log and not for people."""
    answer = call("GET", url, timeout=timeout)
    if not 200 <= answer.status < 300:
        raise ChannelError(f"{safe_url(url)} answered {answer.status}")
