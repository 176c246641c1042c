"""Sink type `bigquery`: a table in Google BigQuery."""
