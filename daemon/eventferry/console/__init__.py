"""Server-rendered pages for people, over the same services as the API. Imported by `eventferry serve` only."""

from eventferry.console.surface import SURFACE

__all__ = ["SURFACE"]
