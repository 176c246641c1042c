"""The contract of a channel: a way by which a message reaches people."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from eventferry.alerts.message import Message

DEADLINE_S = 10.0  # of one send, in total


class ChannelError(Exception):
    """The channel did not take the message. The text is for the operator: no secrets.

    `retry_after` is in seconds, where the channel named a time. `refused` says that it was this message which was
    refused; without it the channel itself does not work, and everything for it waits.
    """

    def __init__(self, text: str, *, retry_after: float | None = None, refused: bool = False) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.refused = refused


class ChannelOptions(BaseModel):
    """The keys of a channel's table that are its own; an unknown key is an error. Validation does no I/O."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=ChannelOptions)


class Channel(ABC, Generic[OptionsT]):
    """A way to people. Keeps no queue, retries nothing; `send` may be called from any thread, one call at a time.

    The outbox owns retry, back-off, the rate cap and the deadline: a call that takes longer is abandoned.
    """

    Options: ClassVar[type[ChannelOptions]] = ChannelOptions
    default_level: ClassVar[str] = "error"  # the least level it gets where the configuration is silent

    def __init__(self, options: OptionsT, name: str = "") -> None:
        self.options = options
        self.name = name

    @abstractmethod
    def send(self, message: Message) -> None:
        """Deliver one message. Returning means that it was taken. Raises ChannelError."""

    def check(self) -> str:
        """Prove without a message that this way works, as far as that can be; says what was proved.

        Raises ChannelError.
        """
        return "its settings are sound; `eventferry alert test` sends a message"
