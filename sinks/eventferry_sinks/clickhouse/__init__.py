"""Sink type `clickhouse`: a table in ClickHouse."""
