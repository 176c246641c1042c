"""Sink type `console`: standard output."""
