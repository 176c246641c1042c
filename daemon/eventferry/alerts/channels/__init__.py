"""Channels: the ways by which messages reach people, one module each."""

from eventferry.alerts.channels.base import DEADLINE_S, Channel, ChannelError, ChannelOptions
from eventferry.alerts.channels.registry import channel_types, known_options, make_channel

__all__ = ["DEADLINE_S", "Channel", "ChannelError", "ChannelOptions", "channel_types", "known_options", "make_channel"]
