"""The pull side over HTTP: the native API and the dialects. Imported by `eventferry serve` only."""
