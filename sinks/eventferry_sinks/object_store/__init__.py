"""Sink type `object_store`: NDJSON, CSV or Parquet in S3, GCS, Azure or a directory."""
