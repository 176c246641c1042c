"""Makes any importable callable that takes one NDJSON text a sink: `type = "acme_bi:process"`."""

import inspect
from collections.abc import Callable
from typing import ClassVar

from eventferry.sink.base import Guarantee, Sink, SinkOptions
from eventferry.sink.batch import Batch


class CallableSink(Sink[SinkOptions]):
    """Calls `function` with each batch as one NDJSON text; returning is its proof, raising anything is not.

    SinkErrors say what the daemon does next; any other exception is retried as unknown.
    """

    function: ClassVar[Callable[[str], object]]
    guarantee = Guarantee.AT_LEAST_ONCE

    def deliver(self, batch: Batch) -> None:
        result = type(self).function(batch.body.decode())
        if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
            _discard(result)
            raise TypeError(
                f"{self.name or 'the function'} returned work that is not done yet: {type(result).__name__}"
            )


def _discard(unfinished: object) -> None:
    close = getattr(unfinished, "close", None)
    if callable(close):
        close()


def complaint(function: object) -> str | None:
    """Why `function` cannot be a sink, as the end of a sentence; None where it can."""
    if not callable(function):
        return f"is a {type(function).__name__}; expected a function that takes an NDJSON text"
    for call in (function, getattr(function, "__call__", None)):  # noqa: B004 - the method itself is looked at
        if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
            return "is asynchronous and would never run; expected a plain function"
        if inspect.isgeneratorfunction(call):
            return "is a generator and would never run; expected a function that returns when the work is done"
    try:
        inspect.signature(function).bind("")
    except TypeError:
        return "cannot be called with one argument; expected a function that takes an NDJSON text"
    except ValueError:  # some built-in callables have no signature
        pass
    return None


def sink_type_of(function: Callable[[str], object], title: str) -> type[CallableSink]:
    """A sink type that calls `function`; `title` names it in tracebacks and lists."""
    doc = f"Calls {title} with each batch as one NDJSON text."
    return type("CallableSink", (CallableSink,), {"function": staticmethod(function), "__doc__": doc})
