"""The doors to the world: Protocols of a few lines each, with their fakes."""
