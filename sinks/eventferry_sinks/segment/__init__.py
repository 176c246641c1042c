"""Sink type `segment`: calls of Segment's tracking API."""
