"""The promises that every sink type keeps, as tests to inherit."""

from eventferry.sink.kit.arriving import ArrivingPromises
from eventferry.sink.kit.failing import FailingPromises
from eventferry.sink.kit.living import LivingPromises
from eventferry.sink.kit.repeating import RepeatingPromises
from eventferry.sink.kit.replacing import ReplacingPromises


class SinkPromises(ArrivingPromises, RepeatingPromises, ReplacingPromises, FailingPromises, LivingPromises):
    """Inherit this in a test class, say what the other side is, and pytest proves the contract.

    `healthy` is required; a sink that talks to a network also gives `unreachable`, `refusing`, `misconfigured`,
    `hanging`, `losing_reply` and `crashing_before` (eventferry.sink.kit.proxy makes the last two in front of any
    server). See Places for all hooks and what else a contract test declares.
    """
