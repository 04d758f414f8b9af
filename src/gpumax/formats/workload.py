"""The workload file: what a person writes, with the queues that may stand beside it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Final

from gpumax.errors import BadFile
from gpumax.formats.fields import CLASSES, FILE_QUEUE, FILE_WORKLOAD, MOST_TASKS, RUNS, Row
from gpumax.formats.lines import Key
from gpumax.formats.queues import check_tree
from gpumax.formats.shape import Bad, Wrongs, bad_file, show
from gpumax.formats.text import Parsed
from gpumax.model.queue import Queue
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.workload import NON_PREEMPTIBLE_FROM, Request

_LONGEST_NAME: Final = 63
_NO_NAMES: Final = frozenset(("", "-", "standard input"))
