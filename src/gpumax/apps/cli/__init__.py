"""The command line. It speaks to the server over HTTP and starts fast: every module here imports late what weighs much."""
