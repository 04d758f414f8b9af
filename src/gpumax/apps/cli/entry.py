"""Where the program begins: nothing but what makes Ctrl-C end it quietly from its first moment to its last."""

from __future__ import annotations

import signal
from typing import NoReturn

_INTERRUPT = signal.getsignal(signal.SIGINT)
# While modules are imported nobody catches the exception that Ctrl-C raises; the system's own answer has no traceback.
# A shell that starts us in the background has it ignored, which stays so.
if _INTERRUPT is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> NoReturn:
    """The program."""
    import sys

    from gpumax.apps.cli.main import main as program

    code = 130
    try:
        signal.signal(signal.SIGINT, _INTERRUPT)
        code = program()
        # The interpreter's own end is no place for a traceback either.
        if _INTERRUPT is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        pass
    sys.exit(code)


if __name__ == "__main__":
    main()
