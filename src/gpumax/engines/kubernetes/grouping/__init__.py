"""Gangs are found from owners: which pods are one workload, with which roles, and how many of each start together."""
