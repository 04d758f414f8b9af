"""Kubernetes: pods of a cluster are tasks, what owns them are workloads."""
