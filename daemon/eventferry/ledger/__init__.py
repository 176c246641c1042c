"""The ledger: the one place that writes SQL; one module per intention, one transaction per step."""

from eventferry.ledger.database import Ledger, open_ledger

__all__ = ["Ledger", "open_ledger"]
