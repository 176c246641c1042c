"""Sink type `postgres`: a table in a PostgreSQL database."""
