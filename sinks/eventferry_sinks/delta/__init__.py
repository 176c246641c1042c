"""Sink type `delta`: a Delta Lake table."""
