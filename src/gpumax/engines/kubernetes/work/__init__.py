"""Workloads as people submit them, as objects of a cluster, and back."""
