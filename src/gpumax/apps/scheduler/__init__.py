"""The scheduler of a cluster of Kubernetes, as a process."""
