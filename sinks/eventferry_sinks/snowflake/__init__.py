"""Sink type `snowflake`: a table in Snowflake."""
