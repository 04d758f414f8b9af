"""The agent of a node: gives containers the parts of GPUs that the scheduler decided."""
