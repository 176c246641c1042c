"""Sink type `redshift`: a table in Amazon Redshift, loaded by COPY from S3."""
