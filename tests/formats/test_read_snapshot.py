"""Snapshots: every field of the format, its spellings, defaults and units."""

from __future__ import annotations

import pytest

from formats.kit import fault_of, faults_of, snapshot, workload
from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node, Taint
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot, Topology
from gpumax.model.workload import (
    Affinity,
    Company,
    DeviceAsk,
    DeviceShare,
    Expression,
    Group,
    NodeTerm,
    Request,
    Task,
    TaskTerm,
    Toleration,
    Workload,
)
from gpumax.units import UNLIMITED

NOON_MS = 1_795_435_200_000  # 2026-11-23T12:00:00Z
GIB = 1024

EVERYTHING = """
    version: gpumax/v1
    now: 2026-11-23T12:00:00Z
    nodes:
      - name: n1
        pool: default
        cpu: 96
        memory: 1Ti
        tasks: 110
        devices: {count: 8, model: H100, memory: 80Gi}
        extended: {rdma/hca: 8}
        labels: {zone: a, rack: r1}
        taints: [{key: k, value: v, effect: NoSchedule}]
        ready: true
    queues:
      - {name: company}
      - name: research
        parent: company
        priority: 100
        quota:  {gpu: 8, cpu: unlimited, memory: unlimited}
        limit:  {gpu: 16}
        weight: {gpu: 2}
        created: 2026-01-01T00:00:00Z
        preempt_min_runtime: 0s
        reclaim_min_runtime: 10m
        usage: {gpu: 0.31}
        demote: [0.5, 10]
        fresh: company
    workloads:
      - name: train-llm
        queue: research
        priority: 50
        preemptible: true
        submitted: 2026-11-23T11:00:00Z
        started: 2026-11-23T11:30:00Z
        stale_since: null
        groups:
          - {name: workers, min: 1}
        request: {gpu: 1, cpu: 8, memory: 64Gi}
        max_duration: 8h
        tasks:
          - name: train-llm-0
            group: workers
            state: running
            node: n1
            devices: [{index: 0, milli: 1000}]
            priority: 0
            selector: {zone: a}
            tolerations: [{key: k, operator: Exists}]
          - name: train-llm-1
            request: {gpu: 0.5, devices: 2, cpu: 8, memory: 64Gi, extended: {rdma/hca: 1}}
    policy:
      placement: {gpu: pack, cpu: pack}
      fairness_k: 1.0
      reserve_after: 1h
      max_evictions: 0
      stale_grace: 60s
      search_steps: 10000
    priorities: {low: 25, train: 50, interactive: 75, build: 100, inference: 125}
    topologies: [{name: default, levels: [zone, block, rack, host]}]
"""


def test_the_example_of_the_format_means_what_it_says() -> None:
    """Every field of the format is read, with its unit; options at their defaults ask for nothing."""
    asked = Request((DeviceAsk(1),), 8000, 64 * GIB)
    assert snapshot(EVERYTHING) == Snapshot(
        now_ms=NOON_MS,
        nodes=(
            Node(
                "n1", "default", 96_000, 1024 * GIB, 110,
                tuple(Device(index, "H100", 80 * GIB) for index in range(8)),
                {"rdma/hca": 8}, {"rack": "r1", "zone": "a"}, (Taint("k", "v", "NoSchedule"),),
            ),
        ),
        queues=(
            Queue("company"),
            Queue(
                "research", "company", 100, Amounts(8000, UNLIMITED, UNLIMITED), Amounts(16_000, UNLIMITED, UNLIMITED),
                Amounts(2000, 1000, 1000), NOON_MS - 326 * 86_400_000 - 43_200_000, 0, 600_000, Amounts(310_000),
                (500, 10_000), "company",
            ),
        ),
        workloads=(
            Workload(
                "train-llm", "research", 50, True, NOON_MS - 3_600_000, NOON_MS - 1_800_000, None, 8 * 3_600_000,
                groups=(Group("workers", 1),),
                tasks=(
                    Task(
                        "train-llm-0", "workers", "running", "n1", (DeviceShare(0, 1000),), 0, {"zone": "a"},
                        tolerations=(Toleration("k", "Exists"),), request=asked,
                    ),
                    Task(
                        "train-llm-1", "workers",
                        request=Request((DeviceAsk(2, 500),), 8000, 64 * GIB, {"rdma/hca": 1}),
                    ),
                ),
            ),
        ),
        policy=Policy(),
        topologies=(Topology("default", ("zone", "block", "rack", "host")),),
    )  # fmt: skip


def test_an_empty_object_is_an_empty_cluster() -> None:
    """Nothing is required at the top; the clock starts in 1970."""
    assert snapshot("{}") == Snapshot()
    assert snapshot("nodes: null\nqueues:\nworkloads: []\npolicy: null\nnow: ~") == Snapshot()


def test_what_is_unset_has_the_defaults_of_the_format() -> None:
    """Quota 0, limit unlimited, weight 1, priorities 50 and 0, preemptible, pending, one group of all tasks."""
    read = snapshot(
        "nodes: [{name: n}]\nqueues: [{name: q}]\nworkloads: [{name: w, queue: q, tasks: [{name: t}, {name: u}]}]"
    )
    assert read.nodes == (Node("n", "", 0, 0, None, (), {}, {}, (), True, False),)
    assert read.queues == (
        Queue("q", None, 100, Amounts(0, 0, 0), Amounts(UNLIMITED, UNLIMITED, UNLIMITED), Amounts(1000, 1000, 1000)),
    )  # fmt: skip
    assert read.workloads == (
        Workload("w", "q", 50, True, 0, None, groups=(Group("", 2),), tasks=(Task("t"), Task("u"))),
    )


def test_null_is_the_same_as_unset() -> None:
    """For every field that may be unset."""
    fields = "priority: null, preemptible: null, started: null, stale_since: null, max_duration: null, groups: null, request: null, topology: null, pool: null"
    assert (
        workload(fields, "state: null, node: null, devices: null, request: null, affinity: null")
        == workload()
    )


def test_devices_are_a_count_or_a_list() -> None:
    """A list gives each device its own model, memory and health; an unset index is its place."""
    read = snapshot("""
        nodes:
          - {name: a, devices: {count: 2, model: H100, memory: 80Gi}}
          - {name: b, devices: [{model: A100, memory: 40Gi}, {index: 1, healthy: false}]}
          - {name: c, devices: [{index: 7}, {index: 3}]}
          - {name: d, devices: {count: 0}}
    """)
    assert [node.devices for node in read.nodes] == [
        (Device(0, "H100", 80 * GIB), Device(1, "H100", 80 * GIB)),
        (Device(0, "A100", 40 * GIB), Device(1, healthy=False)),
        (Device(3), Device(7)),
        (),
    ]


def test_a_device_stands_once_in_its_list() -> None:
    """Also where one index is written and the other is its place."""
    assert (
        fault_of(snapshot, "nodes: [{name: a, devices: [{index: 1}, {}]}]").path
        == "nodes[0].devices[1].index"
    )


@pytest.mark.parametrize(
    ("written", "milli"),
    [("4", 4000), ("0.5", 500), ('"500m"', 500), ("500m", 500), ("1e1", 10_000), ("0.0019", 1)],
)
def test_capacities_of_cores_are_rounded_down(written: str, milli: int) -> None:
    """Numbers and the spellings of Kubernetes."""
    assert snapshot(f"nodes: [{{name: a, cpu: {written}}}]").nodes[0].cpu_milli == milli


@pytest.mark.parametrize(
    ("written", "mib"),
    [
        ("16Gi", 16 * GIB), ("512Mi", 512), ("1000000000", 953), ("1G", 953), ("1048575", 0), ("1.5Gi", 1536),
        ("2Ti", 2048 * GIB), ("1e9", 953), ('"1048576"', 1), ("4096Ki", 4),
    ],
)  # fmt: skip
def test_capacities_of_memory_are_bytes_with_units_of_two_or_ten(written: str, mib: int) -> None:
    """Numbers are bytes; what is less than a MiB is given up."""
    assert snapshot(f"nodes: [{{name: a, memory: {written}}}]").nodes[0].memory_mib == mib


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("7d", 604_800_000), ("2h30m", 9_000_000), ("90", 90_000),
        ("1.5", 1500), ("250ms", 250), ("1w", 604_800_000), ("0", 0), ('"30"', 30_000),
    ],
)  # fmt: skip
def test_durations_have_a_unit_or_are_seconds(written: str, ms: int) -> None:
    """Several units may stand together."""
    assert (
        snapshot(f"queues: [{{name: q, reclaim_min_runtime: {written}}}]").queues[0].reclaim_min_runtime_ms
        == ms
    )


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-23T12:00:00Z", "2026-11-23T13:00:00+01:00", "2026-11-23t12:00:00z", "2026-11-23 12:00:00Z",
        "2026-11-23T12:00:00.000Z", "1795435200", "1795435200.0", "1.7954352e9", '"2026-11-23T07:00:00-05:00"',
    ],
)  # fmt: skip
def test_times_are_rfc_3339_or_seconds(written: str) -> None:
    """One moment, in all the ways to write it."""
    assert snapshot(f"now: {written}").now_ms == NOON_MS


def test_times_keep_milliseconds() -> None:
    """In both spellings."""
    assert snapshot("now: 2026-11-23T12:00:00.123456Z").now_ms == NOON_MS + 123
    assert snapshot("now: 1795435200.123").now_ms == NOON_MS + 123


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-23T12:00:00", "2026-11-23", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-23T25:00:00Z", "-1",
        "1795435200000", "yesterday", "true", "[1]", "1969-12-31T23:59:59Z", "2026-11-23T12:00:00+99:00", ".inf", "1e400",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_a_fault(written: str) -> None:
    """No time zone, no such day, before 1970, or milliseconds."""
    assert fault_of(snapshot, f"now: {written}").path == "now"


def test_milliseconds_are_recognised() -> None:
    """The fault says what the number looks like."""
    assert "looks like milliseconds" in fault_of(snapshot, "now: 1795435200000").wanted


def test_a_weight_is_a_number_or_a_number_a_resource() -> None:
    """One number counts for all resources."""
    read = snapshot("queues: [{name: a, weight: 2.5}, {name: b, weight: {cpu: 0}}, {name: c, weight: 0}]")
    assert [queue.weight for queue in read.queues] == [
        Amounts(2500, 2500, 2500), Amounts(1000, 0, 1000), Amounts(0, 0, 0),
    ]  # fmt: skip


def test_a_weight_is_unset_for_each_resource_by_itself() -> None:
    """Then it is that resource's quota, or 1 where the quota is 0 or unlimited."""
    read = snapshot("""
        queues:
          - {name: a, quota: {gpu: 8, cpu: unlimited, memory: 64Gi}}
          - {name: b, quota: {gpu: 8, cpu: 4}, weight: {cpu: 3}}
    """)
    assert [queue.weight for queue in read.queues] == [Amounts(8000, 1000, 64_000), Amounts(8000, 3000, 1000)]


def test_minimum_runtimes_are_inherited_where_unset() -> None:
    """Unset is not 0: a queue may take back what its parent grants."""
    read = snapshot("queues: [{name: a}, {name: b, preempt_min_runtime: 0s}]")
    assert [queue.preempt_min_runtime_ms for queue in read.queues] == [None, 0]


def test_a_duration_may_be_nothing() -> None:
    """Whatever is a length of time."""
    assert workload("max_duration: 0s").max_duration_ms == 0
    policy = snapshot("policy: {reserve_after: 0, stale_grace: 0s}").policy
    assert (policy.reserve_after_ms, policy.stale_grace_ms) == (0, 0)


def test_steps_are_inherited_where_unset() -> None:
    """Unset is not none: a queue may leave its work alone where its parent's is demoted."""
    read = snapshot("queues: [{name: a}, {name: b, demote: []}]")
    assert [queue.demote for queue in read.queues] == [None, ()]


def test_priority_classes_are_numbers_by_name() -> None:
    """The built-in ones, those of the file, and the file's over the built-in ones."""
    read = snapshot("""
        priorities: {urgent: 99, train: 60}
        workloads:
          - {name: a, queue: q, priority: low, tasks: [{name: a0}]}
          - {name: b, queue: q, priority: urgent, tasks: [{name: b0}]}
          - {name: c, queue: q, priority: train, tasks: [{name: c0}]}
          - {name: d, queue: q, priority: build, tasks: [{name: d0}]}
          - {name: e, queue: q, priority: -5, tasks: [{name: e0}]}
          - {name: f, queue: q, priority: 100, preemptible: true, tasks: [{name: f0}]}
          - {name: g, queue: q, priority: 100, preemptible: semi, tasks: [{name: g0}]}
    """)
    assert [(each.priority, each.preemptible) for each in read.workloads] == [
        (25, True), (99, True), (60, True), (100, False), (-5, True), (100, True), (100, "semi"),
    ]  # fmt: skip


def test_a_slip_in_a_class_name_is_guessed() -> None:
    """The fault names the classes and the nearest."""
    fault = fault_of(workload, "priority: interactiv")
    assert fault.path == "workloads[0].priority"
    assert fault.wanted.endswith("(did you mean interactive?)")


def test_an_unknown_queue_is_no_fault_of_a_snapshot() -> None:
    """It is a hold; a queue with queues below it is one, too."""
    assert workload().queue == "q"
    read = snapshot(
        "queues: [{name: q}, {name: r, parent: q}]\nworkloads: [{name: w, queue: q, tasks: [{name: t}]}]"
    )
    assert read.workloads[0].queue == "q"


def test_a_group_that_is_unset_means_all_its_tasks() -> None:
    """min is unset: all of the group's tasks. Tasks name no group: the only one."""
    assert workload("groups: [{name: g}]").groups == (Group("g", 1),)
    assert workload("groups: [{name: g}]").tasks[0].group == "g"
    assert workload("groups: [{min: 1}]").groups == (Group("", 1),)


def test_a_minimum_above_the_tasks_that_are_there_is_no_fault() -> None:
    """The others may come later: the gang is held until then."""
    assert workload("groups: [{name: g, min: 4}]").groups == (Group("g", 4),)


def test_groups_nest() -> None:
    """Only leaves have tasks and min; the reader names what breaks that."""
    tree = "groups: [{name: all}, {name: a, parent: all, min: 1}, {name: b, parent: all, min: 1}], tasks: [{name: t, group: a}, {name: u, group: b}]"
    text = f"workloads: [{{name: w, queue: q, {tree}}}]"
    assert snapshot(text).workloads[0].groups == (Group("a", 1, "all"), Group("all", 0), Group("b", 1, "all"))
    assert [
        fault.path for fault in faults_of(snapshot, text.replace("name: all}", "name: all, min: 2}"))
    ] == ["workloads[0].groups[0].min"]
    assert fault_of(snapshot, text.replace("group: b", "group: all")).path == "workloads[0].tasks[1].group"


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        ("[{name: g, parent: g}]", "groups[0].parent"),
        ("[{name: g, parent: h}]", "groups[0].parent"),
        ("[{name: g}, {name: g}]", "groups[1].name"),
        ("[{name: g, min: 1}, {name: h}]", "groups[1]"),
        ("[{name: g, min: 0}]", "groups[0].min"),
    ],
)
def test_faults_of_groups_are_named(groups: str, path: str) -> None:
    """Cycles, unknown parents, names that stand twice, and groups without tasks."""
    assert f"workloads[0].{path}" in [
        fault.path for fault in faults_of(workload, f"groups: {groups}", "group: g")
    ]


@pytest.mark.parametrize("state", ["bound", "running", "releasing"])
def test_tasks_that_hold_room_name_a_node_that_exists(state: str) -> None:
    """And devices that it has."""
    assert fault_of(workload, task=f"state: {state}").path == "workloads[0].tasks[0].node"
    assert fault_of(workload, task=f"state: {state}, node: n").path == "workloads[0].tasks[0].node"
    text = f"workloads: [{{name: w, queue: q, tasks: [{{name: t, state: {state}, node: n, devices: [{{index: 4}}]}}]}}]"
    fault = fault_of(snapshot, f"nodes: [{{name: n, devices: {{count: 4}}}}]\n{text}")
    assert fault.path == "workloads[0].tasks[0].devices[0].index"
    assert snapshot(f"nodes: [{{name: n, devices: {{count: 5}}}}]\n{text}").workloads[0].tasks[0].node == "n"


@pytest.mark.parametrize("state", ["pending", "gated", "succeeded", "failed"])
def test_tasks_in_other_states_hold_nothing(state: str) -> None:
    """A node and devices that are still written there are passed over."""
    read = workload(task=f"state: {state}, node: gone, devices: [{{index: 3}}]")
    assert read == workload(task=f"state: {state}")
    assert read.tasks[0].state == state


def test_more_than_a_whole_device_can_not_be_held() -> None:
    """The fault names device, node and holders; it also counts what is leaving."""
    fault = fault_of(
        snapshot,
        """
        nodes: [{name: n, devices: {count: 1}}]
        workloads:
          - {name: v, queue: q, tasks: [{name: a, state: running, node: n, devices: [{index: 0, milli: 600}]}]}
          - {name: w, queue: q, tasks: [{name: b, state: releasing, node: n, devices: [{index: 0, milli: 401}]}]}
        """,
    )
    assert fault.path == "workloads[1].tasks"
    assert fault.found == "1001 milli of device 0 of node n, held by a, b"


def test_rows_are_sorted_whatever_their_order() -> None:
    """Equal states are equal snapshots; tasks count in their names like people do."""
    one = snapshot(
        "nodes: [{name: b}, {name: a}]\nworkloads: [{name: w, queue: q, tasks: [{name: t-10}, {name: t-9}]}]"
    )
    two = snapshot(
        "nodes: [{name: a}, {name: b}]\nworkloads: [{name: w, queue: q, tasks: [{name: t-9}, {name: t-10}]}]"
    )
    assert one == two
    assert [task.name for task in one.workloads[0].tasks] == ["t-9", "t-10"]


def test_affinity_has_the_shape_of_kubernetes() -> None:
    """Required and preferred terms, on labels and on metadata.name."""
    read = workload(
        task="""affinity: {nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
                {matchExpressions: [{key: zone, operator: In, values: [a, b]}, {key: gen, operator: Gt, values: ["3"]}]},
                {matchFields: [{key: metadata.name, operator: NotIn, values: [n9]}]}]},
            preferredDuringSchedulingIgnoredDuringExecution: [
                {weight: 7, preference: {matchExpressions: [{key: ssd, operator: Exists}]}}]}}"""
    )
    assert read.tasks[0].affinity == Affinity(
        required=(
            NodeTerm((Expression("zone", "In", ("a", "b")), Expression("gen", "Gt", ("3",)))),
            NodeTerm(fields=(Expression("metadata.name", "NotIn", ("n9",)),)),
        ),
        preferred=((7, NodeTerm((Expression("ssd", "Exists"),))),),
    )


def test_affinity_between_tasks_has_the_shape_of_kubernetes() -> None:
    """Its namespaces are queues; an empty selector means everything, and none at all nothing."""
    read = workload(
        task="""affinity: {podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
                {topologyKey: zone, labelSelector: {matchLabels: {b: c, a: x}, matchExpressions: [{key: d, operator: Exists}]}},
                {topologyKey: host, namespaces: [p], namespaceSelector: {}, labelSelector: {}, matchLabelKeys: [a]}]},
            podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
                {weight: 3, podAffinityTerm: {topologyKey: host}}]}}"""
    )
    labels = (Expression("a", "In", ("x",)), Expression("b", "In", ("c",)), Expression("d", "Exists"))
    assert read.tasks[0].affinity == Affinity(
        near=Company((TaskTerm("zone", labels), TaskTerm("host", (), ("p",), (), ("a",)))),
        apart=Company((), ((3, TaskTerm("host")),)),
    )


@pytest.mark.parametrize(
    ("term", "path", "wanted"),
    [
        ("labelSelector: {}", "", "topologyKey"),
        ("topologyKey: host, matchLabelKeys: [a]", "", "a labelSelector"),
        ("topologyKey: host, labels: {a: b}", ".labels", ""),
        ("topologyKey: host, namespaceSelector: {matchLabels: {team: a}}", "", "kubernetes.io/metadata.name"),
        ("topologyKey: host, labelSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}",
         ".labelSelector.matchExpressions[0].operator", "In"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_term_is_said_where_it_is(term: str, path: str, wanted: str) -> None:
    """Queues have one label; a term without a topologyKey says nothing."""
    text = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{%s}]}}"
    fault = fault_of(workload, task=text % term)
    place = "workloads[0].tasks[0].affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
    assert fault.path.startswith(place + path)
    assert wanted in f"{fault.path} {fault.wanted}"


@pytest.mark.parametrize(
    "term",
    [
        "{key: a, operator: In}", "{key: a, operator: Exists, values: [b]}", "{key: a, operator: Gt, values: [x]}",
        "{key: a, operator: Gt, values: ['1', '2']}", "{key: a, operator: Equals, values: [b]}", "{operator: Exists}",
    ],
)  # fmt: skip
def test_expressions_that_kubernetes_refuses_are_faults(term: str) -> None:
    """Values where none belong, none where some do, unknown operators."""
    text = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [%s]}]}}}"
    assert fault_of(workload, task=text % term).path.startswith(
        "workloads[0].tasks[0].affinity.nodeAffinity.required"
    )


def test_a_pool_overrides_the_placement() -> None:
    """What it leaves unset is that of the file."""
    read = snapshot("policy: {placement: {gpu: spread}, pools: {a: {placement: {cpu: spread}}, b: {}}}")
    assert read.policy.pools == {"a": Placement("spread", "spread"), "b": Placement("spread", "pack")}


def test_options_of_the_policy_are_read() -> None:
    """fairness_k in millionths, steps and evictions as counts, durations in milliseconds."""
    read = snapshot("policy: {fairness_k: 0.25, max_evictions: 3, search_steps: 7, reserve_after: 2h}").policy
    assert (read.fairness_k, read.max_evictions, read.search_steps) == (250_000, 3, 7)
    assert read.reserve_after_ms == 7_200_000


def test_numbers_of_other_resources_are_read_as_kubernetes_writes_them() -> None:
    """Kubernetes puts counts in quotes."""
    assert snapshot('nodes: [{name: n, extended: {rdma/hca: "8", b: 2}}]').nodes[0].extended == {
        "b": 2,
        "rdma/hca": 8,
    }


def test_json_is_read_as_well() -> None:
    """The same document, in both languages."""
    import msgspec

    from gpumax.formats.snapshot import dump_snapshot, load_snapshot

    read = snapshot(EVERYTHING)
    assert load_snapshot(msgspec.json.encode(dump_snapshot(read))) == read
    assert load_snapshot(dump_snapshot(read)) == read


def test_topologies_are_named_once() -> None:
    """They are read, so that their faults are found; what would use them is refused."""
    assert (
        fault_of(snapshot, "topologies: [{name: a, levels: [x]}, {name: a, levels: [x]}]").path
        == "topologies[1].name"
    )
    assert fault_of(snapshot, "topologies: [{name: a, levels: [x, x]}]").path == "topologies[0].levels"


@pytest.mark.parametrize(
    "text",
    [
        "queues: [{name: q, quota: {gpu: 8Gi}}]",
        "nodes: [{name: n, cpu: 4Gi}]",
        "queues: [{name: q, weight: 2Gi}]",
    ],
)
def test_units_of_memory_belong_to_memory(text: str) -> None:
    """On GPUs, cores and weights they are a slip."""
    fault_of(snapshot, text)


def test_devices_of_a_node_that_is_gone_are_not_known() -> None:
    """Its tasks keep naming them."""
    text = (
        "workloads: [{name: w, queue: q, tasks: [{name: t, state: running, node: n, devices: [{index: 4}]}]}]"
    )
    assert snapshot(f"nodes: [{{name: n, ready: false}}]\n{text}").workloads[0].tasks[0].devices == (
        DeviceShare(4, 1000),
    )
    assert (
        fault_of(snapshot, f"nodes: [{{name: n}}]\n{text}").path == "workloads[0].tasks[0].devices[0].index"
    )
