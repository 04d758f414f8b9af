"""The verbs: pure functions from a snapshot to answers. No clock, no chance, no disk, no network."""
