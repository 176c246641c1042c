"""Sink type `file`: NDJSON files in a directory."""
