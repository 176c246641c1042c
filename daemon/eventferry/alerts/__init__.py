"""Alerts: what people are told, and the ways by which it reaches them."""

from eventferry.alerts.channels.base import Channel, ChannelError, ChannelOptions
from eventferry.alerts.message import Message

__all__ = ["Channel", "ChannelError", "ChannelOptions", "Message"]
