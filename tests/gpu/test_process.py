"""What is told of a broker that can't begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAY = """
import resource, sys
from pathlib import Path
from gpumax.apps.gpu.process import last_words
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
print(last_words(Path(sys.argv[1])))
"""


def told(directory: Path, room: int) -> str:
    """By somebody who may write so many bytes to a file, as on a disk that is full or isn't."""
    command = [sys.executable, "-c", SAY, str(directory), str(room)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_directory_that_takes_nothing_more_is_told_instead_of_what_was_said_before(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("gpumax broker: the broker is up\n")

    assert told(tmp_path, 0) == f"{tmp_path}: file too large"
    assert told(tmp_path, 4096) == "the broker is up"
