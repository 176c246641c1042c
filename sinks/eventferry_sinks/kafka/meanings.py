"""Says what librdkafka's errors mean for a batch."""

import re
from collections.abc import Iterable
from typing import Any

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_FOR_A_PERSON = {
    "UNKNOWN_TOPIC_OR_PART": "make the topic, or set create = true",
    "_UNKNOWN_TOPIC": "make the topic, or set create = true",
    "_UNKNOWN_PARTITION": "the topic has fewer partitions than before",
    "TOPIC_AUTHORIZATION_FAILED": "grant WRITE and DESCRIBE on the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "grant IDEMPOTENT_WRITE on the cluster",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "grant WRITE and DESCRIBE on the transactional id",
    "SASL_AUTHENTICATION_FAILED": "the cluster refuses the credentials",
    "_AUTHENTICATION": "the cluster refuses the credentials",
    "UNSUPPORTED_SASL_MECHANISM": "configure a mechanism that the cluster has",
    "_SSL": "TLS failed; name the authority of the cluster's certificate in ca_file",
    "TOPIC_EXCEPTION": "configure another topic",
    "INVALID_REQUIRED_ACKS": "",
    "POLICY_VIOLATION": "a policy of the cluster forbids it",
    "UNSUPPORTED_COMPRESSION_TYPE": "configure another compression",
    "UNSUPPORTED_VERSION": "the cluster is too old for this",
    "_UNSUPPORTED_FEATURE": "the cluster is too old for this",
    "_INVALID_ARG": "correct the properties",
    "_FENCED": "another producer uses the same transactional id; set transactional_id to one of its own",
    "INVALID_PRODUCER_EPOCH": "another producer uses the same transactional id; set transactional_id to one of its own",
    "PRODUCER_FENCED": "another producer uses the same transactional id; set transactional_id to one of its own",
}
_UNREACHED = ("_TRANSPORT", "_RESOLVE", "_ALL_BROKERS_DOWN")
_WHEN = re.compile(r" \(after \d+ms in state \w+\)")
_TOO_LARGE = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")
_REFUSED = ("INVALID_RECORD", "INVALID_MSG", "INVALID_TIMESTAMP", "_BAD_MSG")


class Meanings:
    """What errors mean at the cluster `who`; what the library hinted at in the background counts where a call merely
    timed out."""

    def __init__(self, who: str, secrets: Iterable[str]) -> None:
        self._who = who
        self._secrets = tuple(secrets)
        self._hint: Any = None

    def listen(self, error: Any) -> None:
        """What the library says on its own: why it cannot connect."""
        if self._hint is None or error.name() in _FOR_A_PERSON:
            self._hint = error

    def forget(self) -> None:
        """A batch was taken: what was wrong before explains nothing that comes."""
        self._hint = None

    def of(self, errors: Iterable[Any], *, untouched: bool = False) -> SinkError:
        """The error that stands for all: a person, then size, then content, then later."""
        found = list(errors)
        told = [each for each in (*found, self._hint) if each is not None]
        for error in told:
            if error.name() in _FOR_A_PERSON:
                remedy = _FOR_A_PERSON[error.name()]
                return SinkMisconfigured(self._words(error) + (f"; {remedy}" if remedy else ""))
        for error in found:
            if error.name() in _TOO_LARGE:
                return BatchTooLarge(
                    f"{self._words(error)}; max.message.bytes of the topic is less than max_message_bytes here"
                )
        for error in found:
            if error.name() in _REFUSED:
                return BatchRejected(self._words(error))
        if not told:
            return SinkUnavailable(f"{self._who}: no answer in time; what it took is unknown", untouched=untouched)
        said = "; ".join(dict.fromkeys(map(self._bare, told[:1] + told[-1:])))
        remedy = "; check `servers` and the network" if any(each.name() in _UNREACHED for each in told) else ""
        return SinkUnavailable(f"{self._who}: {said}{remedy}", untouched=untouched)

    def _words(self, error: Any) -> str:
        return f"{self._who}: {self._bare(error)}"

    def _bare(self, error: Any) -> str:
        return safe_text(f"{error.name()}: {_WHEN.sub('', error.str())}", 200, self._secrets)
