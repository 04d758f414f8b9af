"""The broker as a part of a process: sockets, shared pages, host memory and clocks around the core."""
