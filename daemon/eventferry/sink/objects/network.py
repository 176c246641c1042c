"""What buckets behind a network share: every call ends at the deadline, and its error says what to do next."""

import ssl
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from eventferry import clock
from eventferry.clients.diagnosis import Diagnosis, Kind
from eventferry.errors import ConfigError
from eventferry.sink.answers import retry_after
from eventferry.sink.base import Sink as Sink
from eventferry.sink.errors import BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.objects.base import Bucket
from eventferry.sink.wire import Watchdog

T = TypeVar("T")
