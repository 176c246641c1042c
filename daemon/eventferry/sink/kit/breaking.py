"""Lost replies and crashes for sinks whose other side lies in the same process: a file, an embedded database."""

from eventferry.sink.base import Sink
from eventferry.sink.batch import Batch
from eventferry.sink.errors import SinkUnavailable
from eventferry.sink.kit.target import Target


def breaking(target: Target, *, after: bool) -> Target:
    """The same place, where the first delivery after `arm` ends without an answer: with its effect (`after`) or before.

    For the hooks `losing_reply` and `crashing_before`. In front of a server use CuttingProxy, which proves more.
    """
    armed: list[bool] = []

    def sink() -> Sink:  # type: ignore[type-arg]
        made = target.sink()
        deliver = made.deliver

        def deliver_or_break(batch: Batch) -> None:
            if not armed:
                return deliver(batch)
            armed.clear()
            if after:
                deliver(batch)
            raise SinkUnavailable("the connection broke off")

        setattr(made, "deliver", deliver_or_break)  # noqa: B010 - a method, on this instance only
        return made

    return Target(sink, target.arrived, target.keys, lambda: armed.append(True))
