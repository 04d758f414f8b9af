"""The fields of a workload file."""

from __future__ import annotations

from typing import Any, Final

from gpumax.formats.not_yet import NotYet
from gpumax.formats.queues import PRIORITY, QUEUE_FIELDS, make_queue
from gpumax.formats.requests import REQUEST_FIELDS, make_request
from gpumax.formats.scalars import LABEL_NAME, NAME, QUEUE_NAME, Amount, Choice, Duration, Flag, Text, Whole
from gpumax.formats.shape import Bad, ByType, Field, Map, Object, Rows, Schema, Shape, Then, Wrong, wrong
from gpumax.formats.tasks import MOST_TASKS, TOPOLOGY, WORKLOAD_PRIORITY, Row
from gpumax.formats.yaml_text import Written
from gpumax.model.queue import Queue
from gpumax.model.spec import Checkpoint
from gpumax.model.workload import Request
