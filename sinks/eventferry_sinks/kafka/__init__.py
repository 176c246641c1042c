"""Sink type `kafka`: a topic."""
