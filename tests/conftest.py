"""For all tests: Ctrl-C reaches the programs that they start, though a shell that runs things in the background has it ignored."""

from __future__ import annotations

import signal
import threading

if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)
