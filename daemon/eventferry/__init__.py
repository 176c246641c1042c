"""eventferry carries raw analytics events from the file store where they land to every tool where people look at them."""

__version__ = "0.1.0"
