"""Sink type `http`: a webhook."""
