"""The broker of a node: who of those who share a GPU has room on it, and who may submit, for how long.

`core` decides, and is pure; `wire` and `page` are the protocol as bytes; `node` is the process around them.
"""
