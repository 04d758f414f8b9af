"""Traces of clusters, in the formats in which they are found, as arrivals."""
