"""eventferry carries raw analytics events from the file store where they land to where people look at them."""

__version__ = "0.1.0"
