"""Sink type `iceberg`: an Apache Iceberg table."""
