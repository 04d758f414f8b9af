"""Proof that a share of a GPU holds: small programs that try to exceed it, and what they found. Nothing here needs a server."""
