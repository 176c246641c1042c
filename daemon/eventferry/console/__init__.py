"""Server-rendered pages over the same services as the API. Imported by `eventferry serve` only."""
