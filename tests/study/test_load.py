"""Scenario files: what they mean with their tables, and every fault at once."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from formats.kit import faults_of
from gpumax.errors import BadFile
from gpumax.formats.scenario import OPENB_SIZES, POLICIES
from gpumax.model.study import Failures, Saving
from gpumax.study.caveats import caveats
from gpumax.study.load import load_scenario
from gpumax.units import UNLIMITED
from study.kit import NODES, scenario, write


def _told(folder: Path, text: str) -> list[str]:
    """The faults of a scenario file, as a user sees them."""
    write(folder, {"study.yaml": text})
    return [str(fault) for fault in faults_of(load_scenario, folder / "study.yaml")]


def test_every_field_means_what_the_format_says(tmp_path: Path) -> None:
    """Times and durations in milliseconds, rows in their order by name."""
    found = scenario(
        tmp_path,
        """\
        version: gpumax/v1
        name: last-quarter
        protocol: replay
        arrivals: {csv: jobs.csv, columns: {submitted: at, duration: ran, gpu: gpus, queue: team}, gang: {devices_per_task: 4}}
        failures: {node_mtbf: 30d, node_mttr: 4h}
        policies: [gpumax, static-fifo]
        checkpoint: {every: 15m, restart: 90s}
        window: 7d
        seeds: [7, 8]
        start: 5s
        grace: 30s
        fractions: {"0.5": 3, "1": 1, "0.25": 2}
        """,
        "team,at,ran,gpus\nb,2026-01-01 00:00:10,60,4\na,2026-01-01,1.5,0.5\n",
    )
    assert (found.name, found.protocol, found.policies) == (
        "last-quarter", "replay", ("gpumax", "static-fifo")
    )  # fmt: skip
    assert [node.name for node in found.nodes] == ["node-00001", "node-00002"]
    assert [len(node.devices) for node in found.nodes] == [8, 8]
    assert (found.failures, found.checkpoint) == (
        Failures(30 * 86_400_000, 4 * 3_600_000), Saving(900_000, 90_000)
    )  # fmt: skip
    assert (found.window_ms, found.seeds, found.devices_per_task) == (7 * 86_400_000, (7, 8), 4)
    assert (found.start_ms, found.grace_ms, found.sizes) == (5000, 30_000, {250: 2, 500: 3, 1000: 1})
    first, second = found.arrivals
    assert (first.queue, first.duration_ms, first.devices, first.milli) == ("a", 1500, 1, 500)
    assert (second.queue, second.duration_ms, second.devices, second.milli) == ("b", 60_000, 4, 1000)
    assert second.submitted_ms - first.submitted_ms == 10_000


def test_what_is_left_out_has_its_documented_value(tmp_path: Path) -> None:
    """All policies of the protocol, seed 42, half an hour between checkpoints, a name from the file's."""
    found = scenario(tmp_path)
    assert (found.name, found.policies, found.seeds) == ("study", POLICIES["replay"], (42,))
    assert (found.failures, found.checkpoint, found.window_ms) == (None, Saving(1_800_000, 60_000), None)
    assert (found.devices_per_task, found.start_ms, found.grace_ms) == (8, 0, 0)
    assert found.sizes == OPENB_SIZES
    assert sum(OPENB_SIZES.values()) == 6989


def test_tenants_and_nodes_may_be_tables(tmp_path: Path) -> None:
    """A quota in nodes counts devices, scaled; cores and memory bound nobody."""
    write(
        tmp_path,
        {
            "vc.csv": "vc,node num\nbig,64\nsmall,2\n",
            "hosts.csv": "sn,cpu_milli,memory_mib,gpu,model\nh2,64000,262144,2,P100\nh1,96000,1024,0,\n",
        },
    )
    found = scenario(
        tmp_path,
        """\
        nodes: {csv: hosts.csv, columns: {name: sn, cpu_milli: cpu_milli, memory_mib: memory_mib, devices: gpu, model: model}}
        queues: {csv: vc.csv, columns: {name: vc, nodes: node num}, devices_per_node: 8, scale: 0.25}
        """,
        "submitted,duration,gpu,queue\n0,1,1,big\n",
    )
    assert [(queue.name, queue.quota.gpu, queue.weight.gpu) for queue in found.queues] == [
        ("big", 128_000, 128_000), ("small", 4000, 4000)
    ]  # fmt: skip
    assert {queue.quota.cpu for queue in found.queues} == {UNLIMITED}
    assert [(node.name, len(node.devices), node.cpu_milli, node.memory_mib) for node in found.nodes] == [
        ("h1", 0, 96_000, 1024), ("h2", 2, 64_000, 262_144)
    ]  # fmt: skip
    assert found.nodes[1].devices[0].model == "P100"


def test_who_names_one_column_of_a_table_need_not_name_all(tmp_path: Path) -> None:
    """The others are found where the file calls them as we do, but for what says the same in another way."""
    write(
        tmp_path,
        {
            "vc.csv": "vc,nodes,gpu,priority\na,2,99,7\n",
            "hosts.csv": "sn,cpu,memory,devices\nh1,8,1Gi,4\n",
        },
    )
    found = scenario(
        tmp_path,
        """\
        nodes: {csv: hosts.csv, columns: {name: sn}}
        queues: {csv: vc.csv, columns: {name: vc, nodes: nodes}, devices_per_node: 2}
        """,
        "submitted,duration,gpu,queue\n0,1,1,a\n",
    )
    assert [(queue.name, queue.quota.gpu, queue.priority) for queue in found.queues] == [("a", 4000, 7)]
    assert [(node.name, len(node.devices), node.cpu_milli, node.memory_mib) for node in found.nodes] == [
        ("h1", 4, 8000, 1024)
    ]


def test_a_cluster_with_holes_is_none(tmp_path: Path) -> None:
    """Every row of its table that can't be used is a fault, whatever is done with bad rows of the work."""
    write(
        tmp_path,
        {"hosts.csv": "name,devices,memory\nh1,8,1Ti\nh1,8,1Ti\nh2,eight,1Ti\nh3,300,1Ti\nh4,8,lots\n"},
    )
    with pytest.raises(BadFile) as caught:
        scenario(tmp_path, "nodes: {csv: hosts.csv}", on_bad_row="skip")
    assert [str(fault).partition("nodes.csv: ")[2] for fault in caught.value.faults] == [
        'found "h1" again, first in line 2 in "hosts.csv", line 3, column name; wanted each name once',
        'found "eight" in "hosts.csv", line 4, column devices; wanted a whole number',
        'found 300 in "hosts.csv", line 5, column devices; wanted at most 256',
        'found "lots" in "hosts.csv", line 6, column memory; wanted an amount like 16Gi, 512Mi or a number of bytes',
    ]
    write(tmp_path, {"hosts.csv": "name,gpus\nh1,8\n"})
    with pytest.raises(
        BadFile, match=r'found no column for devices in "hosts\.csv", line 1; wanted one; the file'
    ):
        scenario(tmp_path, "nodes: {csv: hosts.csv}")


def test_without_queues_the_tenants_of_the_trace_have_equal_parts(tmp_path: Path) -> None:
    """Work of no tenant is that of the queue `default`."""
    found = scenario(tmp_path, "queues: null", "submitted,duration,gpu,queue\n0,1,1,b\n0,1,1,\n0,1,1,a\n")
    assert [(queue.name, queue.quota.gpu) for queue in found.queues] == [
        ("a", 5333), ("b", 5333), ("default", 5333)
    ]  # fmt: skip
    assert [arrival.queue for arrival in found.arrivals] == ["b", "default", "a"]


def test_only_what_was_submitted_between_two_moments_counts(tmp_path: Path) -> None:
    """The first moment is in, the second is not; a day is its beginning in UTC."""
    jobs = "submitted,duration,gpu,queue\n" + "".join(
        f"2017-{day},1,1,a\n" for day in ("09-30 23:59:59", "10-01", "11-30T23:59:59", "12-01", "12-01T02:00:00+02:00")
    )  # fmt: skip
    found = scenario(tmp_path, "arrivals: {csv: jobs.csv, between: [2017-10-01, 2017-12-01]}", jobs)
    assert [arrival.name for arrival in found.arrivals] == ["row-0000003", "row-0000004"]
    assert found.bad_rows == 0


def test_a_packed_table_is_read_too(tmp_path: Path) -> None:
    """Whatever its name."""
    plain = "submitted,duration,gpu,queue\n0,60,1,a\n"
    assert scenario(tmp_path, "", gzip.compress(plain.encode())) == scenario(tmp_path, "", plain)


def test_inflate_needs_no_moments(tmp_path: Path) -> None:
    """Nobody leaves."""
    found = scenario(
        tmp_path,
        "protocol: inflate\nqueues: null\narrived: 1.2",
        "name,devices,gpu_milli,models\nx,1,460,A100|T4\n",
    )
    assert (found.arrived, found.policies) == (1200, POLICIES["inflate"])
    assert (found.arrivals[0].devices, found.arrivals[0].milli, found.arrivals[0].models) == (
        1, 460, ("A100", "T4")
    )  # fmt: skip


def test_a_trace_of_a_known_format_needs_no_columns(tmp_path: Path) -> None:
    """In its place stands its format, or nothing."""
    pods = (
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time\n"
        "p-0,12000,16384,1,460,T4,0,100,10\np-1,12000,16384,2,1000,,5,,\n"
    )
    write(tmp_path, {"pods.csv": pods})
    inflate = "protocol: inflate\nqueues: null\narrivals: {trace: pods.csv}"
    assert [arrival.name for arrival in scenario(tmp_path, inflate).arrivals] == ["p-0", "p-1"]
    replay = "queues: null\narrivals: {trace: pods.csv, format: openb}"
    assert [(arrival.name, arrival.duration_ms) for arrival in scenario(tmp_path, replay).arrivals] == [
        ("p-0", 90_000)
    ]  # fmt: skip


def test_a_trace_of_another_format_than_named_is_refused(tmp_path: Path) -> None:
    """With what it lacks."""
    with pytest.raises(
        BadFile, match=r'arrivals\.trace: found no such column in "jobs\.csv", line 1, column "JobID"'
    ):
        scenario(tmp_path, "arrivals: {trace: jobs.csv, format: slurm}")


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """Those of the file, and those of its tables."""
    write(tmp_path, {"vc.csv": "vc,nodes\nx,-1\nx,2\ny,2\ny,3\n"})
    assert _told(
        tmp_path,
        """\
        version: gpumax/v2
        nodes: {csv: missing.csv}
        queues: {csv: vc.csv, columns: {name: vc, nodes: nodes}}
        arrivals: {csv: gone.csv, columns: {submited: x}, between: [2017-12-01, 2017-10-01]}
        policies: [gpumax, gpumaxx, fgd]
        checkpoint: {every: 0s}
        seeds: [1, 1]
        fractions: {"1.5": 1}
        grace: -3
        """,
    ) == [
        'line 1: version: found "gpumax/v2"; wanted one of gpumax/v1 (did you mean gpumax/v1?)',
        'line 2: nodes.csv: found no such file: "missing.csv"; wanted a file that is there',
        'line 3: queues.csv: found "-1" in "vc.csv", line 2, column nodes; wanted 0 or more',
        'line 3: queues.csv: found "y" again, first in line 4 in "vc.csv", line 5, column vc; wanted each name once',
        'line 4: arrivals.columns.submited: found "submited"; wanted one of name, submitted, started, ended, duration, gpu, devices, gpu_milli, gpu_memory_mib, models, cpu, cpu_milli, memory, memory_mib, queue, user, priority, max_duration, devices_per_task (did you mean submitted?)',
        "line 4: arrivals.between: found an end before its beginning; wanted a first moment, and a later one",
        'line 4: arrivals.csv: found no such file: "gone.csv"; wanted a file that is there',
        'line 5: policies[1]: found "gpumaxx"; wanted one of static-fifo, static-backfill, hard-quota, kubernetes-default, gpumax, gpumax-fractions (those of replay) (did you mean gpumax?)',
        'line 5: policies[2]: found "fgd"; wanted one of static-fifo, static-backfill, hard-quota, kubernetes-default, gpumax, gpumax-fractions (those of replay)',
        'line 6: checkpoint.every: found "0s"; wanted a duration of 100 years at most, not negative, not 0',
        "line 7: seeds[1]: found 1 twice; wanted each once",
        'line 8: fractions["1.5"]: found "1.5"; wanted a part of one device in quotes, like "0.5"',
        "line 9: grace: found -3; wanted a duration of 100 years at most, not negative",
    ]


def test_policies_of_the_other_protocol_are_faults(tmp_path: Path) -> None:
    """With those that there are."""
    told = _told(
        tmp_path, NODES + "arrivals: {csv: a.csv}\nprotocol: inflate\npolicies: [fgd, static-fifo]\n"
    )
    known = ", ".join(POLICIES["inflate"])
    assert told[1] == f'line 4: policies[1]: found "static-fifo"; wanted one of {known} (those of inflate)'
    assert len(told) == 2


def test_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    """Each with its line and its column; larger than the cluster and of unknown tenants, too."""
    jobs = "submitted,duration,gpu,queue\n0,60,1,a\n1,-5,1,a\n2,60,17,b\n3,60,1,who\n"
    found = scenario(tmp_path, "", jobs)
    assert len(found.arrivals) == 1
    assert [(bad.row, bad.column, bad.found, bad.wanted) for bad in found.bad] == [
        (3, "duration", '"-5"', "0 or more"),
        (4, "gpu", "17 GPUs", "at most the 16 of the cluster"),
        (5, "queue", '"who"', "a queue of the scenario"),
    ]
    assert found.bad_rows == 3


def test_a_reader_may_stop_at_bad_rows(tmp_path: Path) -> None:
    """By the file or by the caller, who has the last word."""
    jobs = "submitted,duration,gpu,queue\n0,60,1,a\n1,-5,1,a\n"
    with pytest.raises(
        BadFile, match=r'found "-5" in ".*jobs.csv", line 3, column duration; wanted 0 or more'
    ):
        scenario(tmp_path, "", jobs, on_bad_row="stop")
    stopping = "arrivals: {csv: jobs.csv, on_bad_row: stop}"
    with pytest.raises(BadFile):
        scenario(tmp_path, stopping, jobs)
    assert scenario(tmp_path, stopping, jobs, on_bad_row="skip").bad_rows == 1


def test_a_study_of_nothing_is_a_fault(tmp_path: Path) -> None:
    """No GPU, or no work that could be used."""
    with pytest.raises(BadFile, match="found no GPU in any node; wanted at least one"):
        scenario(tmp_path, "nodes: [{name: x, cpu: 4}]")
    with pytest.raises(BadFile, match="found 0 rows, 0 of them bad, and none to use"):
        scenario(tmp_path, "", "submitted,duration,gpu,queue\n")


@pytest.mark.parametrize(
    ("rest", "found", "wanted"),
    [
        ("failures: {node_mtbf: 5ms, node_mttr: 1ms}", "5ms, though row-0000003 needs its node for 31m", "at least 2m36s on these nodes, or a shorter checkpoint.every"),
        ("failures: {node_mtbf: 1m, node_mttr: 1m}", "1m, though row-0000003 needs its node for 31m", "at least 2m36s"),
        ("failures: {node_mtbf: 1m, node_mttr: 1m}\ncheckpoint: {every: 20m, restart: 0s}", "needs its node for 20m", "at least 1m41s"),
    ],
)  # fmt: skip
def test_a_study_that_would_not_end_is_refused(tmp_path: Path, rest: str, found: str, wanted: str) -> None:
    """Nodes that fail before work has saved throw it back for ever."""
    with pytest.raises(BadFile) as caught:
        scenario(tmp_path, rest)
    (fault,) = caught.value.faults
    assert fault.path == "failures.node_mtbf"
    assert found in fault.found
    assert fault.wanted.startswith(wanted)


def test_nodes_that_fail_all_the_time_are_refused(tmp_path: Path) -> None:
    """Though work gets on between their failures, nobody waits for so many."""
    rest = "failures: {node_mtbf: 5ms, node_mttr: 1ms}\ncheckpoint: {every: 1ms, restart: 0s}"
    assert scenario(tmp_path, rest).failures is not None
    with pytest.raises(BadFile) as caught:
        scenario(tmp_path, rest, "submitted,duration,gpu,queue\n0,36000000,1,a\n")
    (fault,) = caught.value.faults
    assert (fault.path, fault.wanted) == (
        "failures.node_mtbf",
        "at most 5,000,000 failures: at least 15s on these nodes",
    )
    assert "nodes would fail 12,000,000,000 times" in fault.found


def test_a_gang_needs_all_its_nodes_to_last(tmp_path: Path) -> None:
    """Sixteen GPUs on two nodes fail twice as often."""
    rest = "failures: {node_mtbf: 3m, node_mttr: 1m}"
    alone = scenario(tmp_path, rest, "submitted,duration,gpu,queue\n0,3600,8,a\n")
    assert alone.failures is not None
    with pytest.raises(BadFile, match="row-0000002 needs each of its 2 nodes for 31m"):
        scenario(tmp_path, rest, "submitted,duration,gpu,queue\n0,3600,16,a\n")


def test_a_window_that_is_not_the_time_of_the_work_is_told(tmp_path: Path) -> None:
    """Use means something else then."""
    jobs = "submitted,duration,gpu,queue\n0,60,1,a\n36000,3600,4,b\n"

    def told(window: str) -> list[str]:
        found = scenario(tmp_path, window, jobs)
        return [sentence for sentence in caveats(found) if "measured over" in sentence]

    assert told("") == told("window: 10h") == []
    assert told("window: 1h") == [
        "Use is measured over 1h from the first arrival on, though work came for 10h: what came later counts for waits alone."
    ]
    assert told("window: 365d")[0].endswith("though work came for 10h: the GPUs rest for a part of it.")


def test_queues_that_inflate_knows_nothing_of_are_the_one_fault(tmp_path: Path) -> None:
    """The rows of the trace are not blamed for them."""
    with pytest.raises(BadFile) as caught:
        scenario(tmp_path, "protocol: inflate\nqueues: [{name: z}]\n")
    (fault,) = caught.value.faults
    assert fault.found == "queues for inflate"
