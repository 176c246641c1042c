"""Sink type `duckdb`: a table in a DuckDB file."""
