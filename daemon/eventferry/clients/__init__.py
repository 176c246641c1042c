"""Clients of object stores: as whom and how S3, GCS and Azure are reached, and what their errors mean.

Stores read with them, sinks and exports write with them. Index workers import this package, so a provider's library is
imported only when a client of it is made.
"""
