"""Sink type `elasticsearch`: an index or data stream of Elasticsearch or OpenSearch."""
