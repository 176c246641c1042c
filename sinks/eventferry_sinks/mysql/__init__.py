"""Sink type `mysql`: a table in MySQL or MariaDB."""
