"""Each format that is known: a small file of it, and what that means."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from gpumax.formats.snapshot import load_snapshot
from gpumax.loop.journal import FileJournal
from gpumax.model.decision import Decision
from gpumax.model.trace import Arrival
from gpumax.traces.collect import AGAIN, NEVER_RAN, STILL_RUNNING, Wish
from gpumax.traces.kubernetes import NO_POD, PART_OF_GANG
from gpumax.traces.read import read_known, read_trace
from gpumax.traces.slurm import STEP
from traces.kit import SAMPLES, bad, read

HOUR = 3_600_000
FORMATS = {
    "sacct.txt": "slurm",
    "cluster_job_log.json": "philly",
    "openb_pods.csv": "openb",
    "cluster_log.csv": "helios",
    "pods.json": "kubernetes",
    "own.csv": "csv",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_known_by_its_beginning(name: str) -> None:
    """Naming it makes no difference."""
    found, trace = read_known(SAMPLES / name)
    assert found == FORMATS[name]
    assert trace == read_trace(SAMPLES / name, found)
    assert trace.arrivals


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_packed_and_as_other_systems_write_text(tmp_path: Path, name: str) -> None:
    """gzip, a byte order mark, and lines that end as on Windows change nothing."""
    data = (SAMPLES / name).read_bytes()
    trace = read_trace(SAMPLES / name)
    assert read(tmp_path, gzip.compress(data)) == trace
    assert read(tmp_path, b"\xef\xbb\xbf" + data) == trace
    assert read(tmp_path, data.replace(b"\n", b"\r\n")) == trace


def _by_name(name: str) -> dict[str, Arrival]:
    return {arrival.name: arrival for arrival in read_trace(SAMPLES / name).arrivals}


def test_slurm_jobs_are_read_without_their_steps() -> None:
    """Of GPUs what was given counts, of models what was asked for; a job waits from when it may run."""
    jobs = _by_name("sacct.txt")
    assert list(jobs) == ["101", "102_1", "104-0", "103"]
    first = jobs["101"]
    assert (first.devices, first.models, first.duration_ms, first.queue, first.user) == (
        2, (), 2 * HOUR, "vision", "ada"
    )  # fmt: skip
    assert (first.cpu_milli, first.memory_mib, first.max_duration_ms) == (16_000, 128 * 1024, 24 * HOUR)
    assert first.submitted_ms == 1_772_352_000_000
    assert (jobs["102_1"].models, jobs["102_1"].memory_mib) == (("h100",), 64 * 1024)
    assert (jobs["103"].devices, jobs["103"].duration_ms) == (32, HOUR)
    assert (jobs["103"].devices_per_task, first.devices_per_task) == (4, 0)
    assert jobs["103"].submitted_ms - first.submitted_ms == 2 * HOUR + 5 * 60_000 + 1000
    assert (jobs["104-0"].devices, jobs["104-0"].queue, jobs["104-0"].memory_mib) == (0, "cpu", 16 * 1024)
    trace = read_trace(SAMPLES / "sacct.txt")
    assert (trace.notes[STEP], trace.notes[NEVER_RAN], trace.notes[STILL_RUNNING]) == (2, 1, 1)
    assert bad(trace) == [(9, "End", '"2026-03-01T09:35:00"', "an end at or after the beginning")]


def test_a_slurm_priority_is_no_class_of_ours() -> None:
    """It is a number of the moment; what protects work from eviction here would follow from it."""
    assert {job.priority for job in _by_name("sacct.txt").values()} == {50}


def test_a_philly_job_ran_as_long_as_its_attempts() -> None:
    """On the most GPUs that one of them had; without a GPU, or a known span, it never ran."""
    trace = read_trace(SAMPLES / "cluster_job_log.json")
    (job,) = trace.arrivals
    assert (job.name, job.queue, job.user) == ("application_1506638472019_10258", "ee9e8c", "ce2e43")
    assert (job.devices, job.duration_ms) == (8, HOUR + 469_000)
    assert (trace.rows, trace.notes) == (4, {NEVER_RAN: 2})
    assert bad(trace) == [(10, "end_time", '"2017-10-07 01:00:00"', "an end at or after the beginning")]


def test_an_attempt_may_end_at_once(tmp_path: Path) -> None:
    """It ran, for no time."""
    text = (
        (SAMPLES / "cluster_job_log.json").read_text().replace("2017-10-07 01:19:29", "2017-10-07 01:11:40")
    )
    (job,) = read(tmp_path, text).arrivals
    assert job.duration_ms == HOUR


def test_openb_pods_run_from_their_place_to_their_end() -> None:
    """Parts of a device, and models with alternatives."""
    pods = _by_name("openb_pods.csv")
    assert list(pods) == ["openb-pod-0000", "openb-pod-0001", "openb-pod-0002"]
    part = pods["openb-pod-0001"]
    assert (part.devices, part.milli, part.models) == (1, 460, ("V100M16", "V100M32"))
    assert (part.submitted_ms, part.duration_ms) == (427_061_000, (12_902_960 - 427_100) * 1000)
    assert (pods["openb-pod-0002"].devices, pods["openb-pod-0002"].cpu_milli) == (0, 32_000)


def test_of_pods_that_never_ran_the_sizes_are_of_use() -> None:
    """Where nobody asks for times."""
    trace = read_trace(SAMPLES / "openb_pods.csv", wish=Wish(timed=False))
    assert [(arrival.devices, arrival.milli) for arrival in trace.arrivals] == [
        (1, 1000), (1, 460), (0, 1000), (8, 1000)
    ]  # fmt: skip


def test_the_queue_of_a_helios_log_is_a_wait() -> None:
    """Its tenants are virtual clusters."""
    jobs = _by_name("cluster_log.csv")
    assert [(job.name, job.queue, job.devices, job.duration_ms) for job in jobs.values()] == [
        ("11", "vcWoR", 8, HOUR), ("12", "vcvGl", 0, 10_000)
    ]  # fmt: skip


def test_pods_of_one_gang_are_one_workload() -> None:
    """From the first that came to the last that ended; pods of a ReplicaSet stand each for itself."""
    pods = _by_name("pods.json")
    gang = pods["nlp/bert"]
    assert (gang.devices, gang.devices_per_task, gang.queue, gang.priority) == (16, 8, "research", 125)
    assert gang.duration_ms == 2 * HOUR + 60_000
    assert (gang.cpu_milli, gang.memory_mib, gang.models) == (32_500, 256 * 1024, ("NVIDIA-H100-80GB-HBM3",))
    assert read_trace(SAMPLES / "pods.json").notes == {
        NO_POD: 1, PART_OF_GANG: 1, NEVER_RAN: 1, STILL_RUNNING: 1
    }  # fmt: skip
    alone = pods["teaching/notebook-5f7d9"]
    assert (alone.queue, alone.devices, alone.milli) == ("teaching", 1, 500)


def test_pods_that_replace_others_are_no_more(tmp_path: Path) -> None:
    """A gang holds what its pods held at once."""
    pod = (
        '{"kind": "Pod", "metadata": {"name": "j-%d", "namespace": "n", "uid": "%d", "creationTimestamp": "2026-01-01T0%d:00:00Z", '
        '"ownerReferences": [{"kind": "Job", "name": "j"}]}, "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]}, '
        '"status": {"phase": "Failed", "startTime": "2026-01-01T0%d:00:00Z", "containerStatuses": [{"state": {"terminated": '
        '{"finishedAt": "2026-01-01T0%d:30:00Z"}}}]}}'
    )
    (job,) = read(tmp_path, "\n".join(pod % (hour, hour, hour, hour, hour) for hour in (1, 2, 3))).arrivals
    assert (job.name, job.devices, job.duration_ms) == ("n/j", 4, 2 * HOUR + 30 * 60_000)


def test_the_last_that_is_told_of_a_pod_counts(tmp_path: Path) -> None:
    """As `kubectl get pods --watch --output-watch-events` prints: one event after the other."""
    event = (
        '{"type": "MODIFIED", "object": {"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u", '
        '"creationTimestamp": "2026-01-01T01:00:00Z"}, "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}, '
        '"status": %s}}'
    )
    states = (
        '{"phase": "Pending"}',
        '{"phase": "Running", "startTime": "2026-01-01T01:10:00Z"}',
        '{"phase": "Succeeded", "startTime": "2026-01-01T01:10:00Z", "containerStatuses": [{"state": {"terminated": '
        '{"finishedAt": "2026-01-01T02:10:00Z"}}}]}',
    )
    (pod,) = read(tmp_path, "\n".join(event % state for state in states)).arrivals
    assert (pod.duration_ms, pod.devices) == (HOUR, 1)


@pytest.mark.parametrize(
    ("limits", "devices", "milli"),
    [
        ('{"nvidia.com/gpu": "2"}', 2, 1000), ('{"amd.com/gpu": 1}', 1, 1000), ('{"nvidia.com/mig-1g.10gb": "1"}', 1, 143),
        ('{"nvidia.com/mig-3g.40gb": 1}', 1, 429), ('{"cpu": "4"}', 0, 1000),
    ],
)  # fmt: skip
def test_pods_ask_for_gpus_in_many_ways(tmp_path: Path, limits: str, devices: int, milli: int) -> None:
    """Of several makers, and for slices of a device, which are parts of it."""
    pod = (
        '{"kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "2026-01-01T01:00:00Z"}, "spec": {"containers": '
        '[{"resources": {"limits": %s}}]}, "status": {"phase": "Succeeded", "startTime": "2026-01-01T01:00:00Z", '
        '"containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-01T02:00:00Z"}}}]}}'
    )
    (found,) = read(tmp_path, pod % limits).arrivals
    assert (found.name, found.queue, found.devices, found.milli) == ("default/p", "default", devices, milli)


def test_a_list_inside_of_a_pod_is_no_list_of_pods(tmp_path: Path) -> None:
    """Volumes have `items`, too."""
    pod = (
        '{"kind": "Pod", "metadata": {"name": "p-%d", "namespace": "n", "creationTimestamp": "2026-01-01T01:00:00Z"}, "spec": '
        '{"volumes": [{"projected": {"sources": [{"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}], '
        '"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}, "status": {"phase": "Succeeded", "startTime": '
        '"2026-01-01T01:00:00Z", "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-01T02:00:00Z"}}}]}}'
    )
    trace = read(tmp_path, "\n".join(pod % number for number in (1, 2)))
    assert [arrival.name for arrival in trace.arrivals] == ["n/p-1", "n/p-2"]
    whole = '{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[%s,%s]}'
    assert read(tmp_path, whole % (pod % 1, pod % 2)).arrivals == trace.arrivals


@pytest.mark.parametrize(
    ("given", "gpus"),
    [
        ("billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=4G", 2), ("cpu=8,gres/gpu:a100=2,gres/gpu:v100=1", 3), ("gres/gpu=8", 8), ("gres/gpu:a100=1,gres/gpu=3", 3),
        ("gpu:2", 2), ("gpu:tesla_v100:4", 4), ("gres:gpu:1", 1), ("gres/gpumem=80G,gres/gpuutil=0", 0), ("cpu=4,mem=1G", 0), ("", 0),
    ],
)  # fmt: skip
def test_slurm_tells_of_gpus_in_many_ways(tmp_path: Path, given: str, gpus: int) -> None:
    """By model or not, as TRES or as GRES of older versions."""
    (job,) = read(
        tmp_path,
        f"JobID|Submit|Start|End|AllocTRES\n1|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|{given}\n",
    ).arrivals
    assert job.devices == gpus


@pytest.mark.parametrize(
    ("asked", "mib"),
    [("64G", 65_536), ("4Gc", 32_768), ("64Gn", 131_072), ("4000M", 4000), ("0", 0), ("", 0), ("1.5T", 1_572_864)],
)  # fmt: skip
def test_slurm_asks_for_memory_in_many_ways(tmp_path: Path, asked: str, mib: int) -> None:
    """For the job, for each of its cores, for each of its nodes."""
    (job,) = read(
        tmp_path,
        "JobID|Submit|Start|End|NCPUS|NNodes|ReqMem\n"
        f"1|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|8|2|{asked}\n",
    ).arrivals
    assert (job.memory_mib, job.cpu_milli) == (mib, 8000)


def test_without_their_number_a_job_has_one_node(tmp_path: Path) -> None:
    """And as many cores as it asked for."""
    (job,) = read(
        tmp_path,
        "JobID|Submit|Start|End|ReqCPUS|ReqMem\n1|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|4|8Gn\n",
    ).arrivals
    assert (job.memory_mib, job.cpu_milli) == (8192, 4000)


def _journal(folder: Path) -> None:
    """A workload that waits a minute, runs one, is evicted, runs another two; and one that never runs."""
    journal = FileJournal(folder)
    states = ("pending", "running", "pending", "running", "running", "succeeded")
    for minute, state in enumerate(states):
        held = ", node: n1, devices: [{index: 0}, {index: 1}]" if state == "running" else ""
        snapshot = load_snapshot(
            f"""
            now: 2026-01-01T00:0{minute}:00Z
            nodes: [{{name: n1, devices: {{count: 2, model: A100}}}}]
            queues: [{{name: a}}, {{name: b}}]
            workloads:
              - {{name: train, queue: a, submitted: 2026-01-01T00:00:00Z, priority: 75, max_duration: 1h,
                 request: {{gpu: 2, cpu: 8, memory: 4Gi}}, tasks: [{{name: train-0, state: {state}{held}}}]}}
              - {{name: wait, queue: b, submitted: 2026-01-01T00:00:00Z, request: {{gpu: 0.5}}, tasks: [{{name: wait-0}}]}}
            """
        )
        journal.write(snapshot, Decision())
    journal.close()


def test_a_journal_tells_how_long_work_ran(tmp_path: Path) -> None:
    """The waits between its runs are no work; what never ran has no duration."""
    _journal(tmp_path)
    format, trace = read_known(tmp_path)
    assert format == "journal"
    (train,) = trace.arrivals
    assert (train.name, train.queue, train.priority) == ("train", "a", 75)
    assert train.submitted_ms == 1_767_225_600_000
    assert (train.devices, train.milli, train.cpu_milli, train.memory_mib) == (2, 1000, 8000, 4096)
    assert (train.duration_ms, train.max_duration_ms) == (3 * 60_000, HOUR)
    assert trace.notes[NEVER_RAN] == 1
    assert read_known(tmp_path / "decisions-000001.jsonl") == ("journal", trace)


def test_work_that_is_done_again_after_an_eviction_counts_once(tmp_path: Path) -> None:
    """Where the journal knows what was saved: 10 minutes saved of 25, then nothing of 5, then 20 to the end."""
    journal = FileJournal(tmp_path)
    moments = ((0, "running", ""), (15, "running", "00:10"), (25, "pending", ""), (30, "running", "00:10"), (35, "pending", ""), (40, "running", ""))  # fmt: skip
    for minute, state, saved in moments:
        held = ", node: n1, devices: [{index: 0}]" if state == "running" else ""
        known = f"checkpointed: 2026-01-01T{saved}:00Z," if saved else ""
        row = f"{{name: train, queue: a, submitted: 2026-01-01T00:00:00Z, {known} request: {{gpu: 1}}, tasks: [{{name: train-0, state: {state}{held}}}]}}"  # fmt: skip
        text = f"{{now: 2026-01-01T00:{minute:02}:00Z, nodes: [{{name: n1, devices: {{count: 1}}}}], queues: [{{name: a}}], workloads: [{row}]}}"
        journal.write(load_snapshot(text), Decision())
    journal.write(load_snapshot("{now: 2026-01-01T01:00:00Z, queues: [{name: a}]}"), Decision())
    journal.close()
    (train,) = read_trace(tmp_path).arrivals
    assert train.duration_ms == (10 + 0 + 20) * 60_000


def test_the_torn_end_of_a_journal_is_one_bad_row(tmp_path: Path) -> None:
    """What stands before it counts."""
    _journal(tmp_path)
    file = tmp_path / "decisions-000001.jsonl"
    whole = read_trace(file)
    file.write_bytes(file.read_bytes() + b'{"version":"gpumax/v1","gpumax":"0.1')
    torn = read_trace(file)
    assert torn.arrivals == whole.arrivals
    assert bad(torn) == [(7, "", "a line that breaks off", "an entry of a journal")]


def test_a_table_with_names_of_our_own_needs_no_columns() -> None:
    """As `gpumax trace convert` writes it."""
    (first, second) = read_trace(SAMPLES / "own.csv").arrivals
    assert msgspec.structs.asdict(first) == {
        "name": "a-1", "submitted_ms": 0, "duration_ms": 60_000, "devices": 2, "milli": 500, "gpu_memory_mib": 0,
        "models": ("H100", "A100"), "cpu_milli": 1500, "memory_mib": 2048, "queue": "a", "user": "ada", "priority": 75,
        "max_duration_ms": 120_000, "devices_per_task": 0,
    }  # fmt: skip
    assert (second.devices, second.gpu_memory_mib, second.duration_ms) == (1, 20_480, 1500)


OFTEN = "job_id,user,submit_time,runtime,gpus,cluster\nj1,ann,0,60,2,a\nj2,bob,5,60,1,b\n"


@pytest.mark.parametrize(
    ("columns", "queues", "users"),
    [
        ({"gpu": "gpus"}, ["a", "b"], ["ann", "bob"]),
        ({"queue": "user"}, ["ann", "bob"], ["", ""]),
        ({"queue": ""}, ["", ""], ["ann", "bob"]),
        ({"duration": "runtime", "name": ""}, ["a", "b"], ["ann", "bob"]),
    ],
)
def test_who_names_one_column_need_not_name_all(
    tmp_path: Path, columns: dict[str, str], queues: list[str], users: list[str]
) -> None:
    """The others are found as without; a column is not read twice, and one that is named empty is none."""
    (tmp_path / "jobs.csv").write_text(OFTEN)
    trace = read_trace(tmp_path / "jobs.csv", "", columns)
    assert [one.queue for one in trace.arrivals] == queues
    assert [one.user for one in trace.arrivals] == users
    assert [(one.devices, one.duration_ms) for one in trace.arrivals] == [(2, 60_000), (1, 60_000)]
    assert next(one.name for one in trace.arrivals) == ("row-0000002" if "name" in columns else "j1")


def test_what_work_is_called_is_no_name_of_its_own(tmp_path: Path) -> None:
    """Jobs of one name come again and again; only what is called an id is taken for one where nobody says it."""
    text = "job,submitted,duration,gpu\ntrain,0,60,1\ntrain,5,60,1\n"
    (tmp_path / "jobs.csv").write_text(text)
    assert len(read_trace(tmp_path / "jobs.csv").arrivals) == 2
    assert read_trace(tmp_path / "jobs.csv", "", {"name": "job"}).bad_rows == 1


def test_what_somebody_has_settled_is_not_guessed_beside_it(tmp_path: Path) -> None:
    """A duration that is named is no end that is guessed; so with GPUs that are said in two ways."""
    text = "submitted,seconds,ended,start,gpu,devices,n\n100,60,7,300,0.5,3,2\n"
    (tmp_path / "jobs.csv").write_text(text)
    (one,) = read_trace(tmp_path / "jobs.csv", "", {"duration": "seconds", "gpu": "n"}).arrivals
    assert (one.devices, one.milli, one.duration_ms) == (2, 1000, 60_000)
    text = "submitted,stop,runtime,start,gpu\n100,400,7,300,1\n"
    (tmp_path / "jobs.csv").write_text(text)
    (one,) = read_trace(tmp_path / "jobs.csv", "", {"ended": "stop"}).arrivals
    assert one.duration_ms == 100_000


def test_rows_that_stand_there_twice_are_noted_where_nothing_names_them(tmp_path: Path) -> None:
    """They may be work that came twice, so each counts. Names tell them apart."""
    rows = "0,60,1,a\n5,60,1,a\n0,60,1,a\n0,61,1,a\n0,60,1,a\n"
    trace = read(tmp_path, "submitted,duration,gpu,queue\n" + rows)
    assert len(trace.arrivals) == 5
    assert trace.notes[AGAIN] == 2
    named = "".join(f"{number},{row}\n" for number, row in enumerate(rows.splitlines()))
    assert AGAIN not in read(tmp_path, "name,submitted,duration,gpu,queue\n" + named).notes
