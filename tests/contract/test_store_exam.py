"""The exam that every store passes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from gpumax.errors import BadFile, Conflict, NotFound
from gpumax.model.amounts import Amounts
from gpumax.model.decision import Hold
from gpumax.model.records import Changes, Wish
from gpumax.model.spec import GroupSpec
from gpumax.model.workload import DeviceShare, Request
from gpumax.ports.store import Store
from gpumax.ports.store_fake import MemoryStore
from gpumax.stores.sql import SqlStore
from store_samples import event, names, put, queue, record_of, spec, submit, tasks_of


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new, empty store."""
    made: Store = MemoryStore() if request.param == "memory" else SqlStore(tmp_path / "gpumax.db")
    yield made
    made.close()


class TestSubmit:
    def test_a_new_workload_waits_with_its_tasks_and_is_told_of(self, store: Store) -> None:
        """Submit gives a pending workload at its time, a pending task for each it may have, and a Submitted event."""
        (record,) = submit(store, spec("a", tasks=3))
        assert (record.name, record.state, record.wish, record.submitted_ms) == ("a", "pending", "run", 1000)
        assert record.spec == spec("a", tasks=3)
        assert store.find("a") == (record, tasks_of(store, "a"))
        assert [(task.index, task.name, task.state) for task in tasks_of(store, "a")] == [
            (0, "a-0", "pending"), (1, "a-1", "pending"), (2, "a-2", "pending"),
        ]  # fmt: skip
        assert {task.workload_id for task in tasks_of(store, "a")} == {record.id}
        (told,) = store.events()
        assert (told.kind, told.workload, told.at_ms) == ("Submitted", "a", 1000)

    def test_tasks_are_ranked_over_all_groups(self, store: Store) -> None:
        """Ranks go on from group to group, in the order of the groups."""
        groups = (GroupSpec("lead", 1, 1, Request(), "x"), GroupSpec("work", 1, 2, Request(), "y"))
        submit(store, replace(spec("a"), groups=groups))
        assert [(task.index, task.name, task.group) for task in tasks_of(store, "a")] == [
            (0, "a-0", "lead"), (1, "a-1", "work"), (2, "a-2", "work"),
        ]  # fmt: skip

    def test_no_two_workloads_have_a_task_of_the_same_name(self, store: Store) -> None:
        """Names that continue one another don't lead to equal task names."""
        submit(store, spec("a", tasks=12), spec("a-1", tasks=12), spec("a-1-1", tasks=12))
        made = [task.name for _, tasks in store.live().workloads for task in tasks]
        assert len(set(made)) == 36

    def test_all_or_none(self, store: Store) -> None:
        """Where one of several workloads can't be submitted, none is, and no queue is set, and nothing is told."""
        submit(store, spec("a"))
        with pytest.raises(Conflict, match="a: a workload of this name exists"):
            store.submit([spec("b"), spec("a")], queues=[queue("red")], key="k", digest="d", now_ms=1000)
        assert names(store.live()) == ["a"]
        assert store.queues() == ()
        assert len(store.events()) == 1
        assert len(store.submit([spec("b")], key="k", digest="other", now_ms=1000)) == 1

    def test_a_name_is_taken_until_its_workload_is_deleted(self, store: Store) -> None:
        """Finished workloads keep their names; deleted ones free them, and the new one has an id of its own."""
        (first,) = submit(store, spec("a"))
        put(store, replace(first, state="succeeded"))
        with pytest.raises(Conflict, match="succeeded"):
            submit(store, spec("a"))
        store.commit(Changes(deleted=(first.id,)))
        (second,) = submit(store, spec("a"))
        assert second.id != first.id

    def test_a_name_twice_at_once_is_refused(self, store: Store) -> None:
        """Two workloads of one name in one submission are a Conflict."""
        with pytest.raises(Conflict, match="twice"):
            submit(store, spec("a"), spec("a"))
        assert store.live().workloads == ()

    def test_the_same_key_makes_things_once(self, store: Store) -> None:
        """A repeat with the same key and digest changes nothing and returns what there is by now."""
        made = submit(store, spec("a"), spec("b"), key="k", digest="d")
        put(store, replace(made[0], state="running"))
        again = store.submit([spec("a"), spec("b")], key="k", digest="d", now_ms=5000)
        assert [(r.id, r.submitted_ms) for r in again] == [(r.id, 1000) for r in made]
        assert [record.state for record in again] == ["running", "pending"]
        assert len(store.events()) == 2

    def test_a_repeat_leaves_out_what_was_deleted(self, store: Store) -> None:
        """A repeat never makes anew what a person deleted."""
        made = submit(store, spec("a"), spec("b"), key="k", digest="d")
        store.commit(Changes(deleted=(made[0].id,)))
        assert [record.name for record in submit(store, spec("a"), spec("b"), key="k", digest="d")] == ["b"]

    def test_a_key_with_another_digest_is_refused(self, store: Store) -> None:
        """One key stands for one submission."""
        submit(store, spec("a"), key="k", digest="d")
        with pytest.raises(Conflict, match="idempotency key"):
            submit(store, spec("b"), key="k", digest="e")
        assert names(store.live()) == ["a"]

    def test_keys_are_forgotten_after_a_week_and_more(self, store: Store) -> None:
        """A key can't be remembered for ever; a submission after more than a week makes room."""
        submit(store, spec("a"), key="k", digest="d")
        later = 1000 + 8 * 24 * 3_600_000
        store.submit([spec("b")], key="other", digest="d", now_ms=later)
        assert [r.name for r in store.submit([spec("c")], key="k", digest="new", now_ms=later)] == ["c"]

    def test_queues_are_set_along(self, store: Store) -> None:
        """Queues of the same submission are there with the work, parents after children or not."""
        store.submit(
            [spec("a")], queues=[queue("red", "company"), queue("company")], key="", digest="", now_ms=7
        )
        assert [(q.name, q.parent, q.created_ms) for q in store.queues()] == [
            ("company", None, 7), ("red", "company", 7),
        ]  # fmt: skip
        assert [told.kind for told in store.events()] == ["QueueSet", "QueueSet", "Submitted"]

    def test_many_threads_submit_at_once(self, store: Store) -> None:
        """Of submissions of one name from many threads one is made; others are all made, each event has its number."""

        def one(number: int) -> int:
            submit(store, spec(f"w{number}", tasks=2))
            try:
                return len(submit(store, spec("same")))
            except Conflict:
                return 0

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(one, range(40))) == 1
        assert set(names(store.live())) == {"same", *(f"w{number}" for number in range(40))}
        assert [told.seq for told in store.events(limit=1000)] == list(range(1, 42))

    def test_one_key_from_many_threads_makes_one_thing(self, store: Store) -> None:
        """Retries that overtake each other get the same answer."""
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _: submit(store, spec("a", tasks=2), key="k", digest="d"), range(24))
            )
        assert len({records[0].id for records in answers}) == 1
        assert len(store.events()) == 1


class TestLive:
    def test_an_empty_store(self, store: Store) -> None:
        """Nothing is there at first."""
        assert store.live().workloads == ()
        assert store.live().queues == ()
        assert store.find("a") is None
        assert store.events() == ()

    def test_oldest_first_and_without_the_finished(self, store: Store) -> None:
        """Live work comes in the order of submission; finished work is left out."""
        made = submit(store, spec("z"), spec("b"), spec("a"))
        put(store, replace(made[1], state="failed"))
        assert names(store.live()) == ["z", "a"]

    def test_finished_work_that_is_wished_deleted_is_live(self, store: Store) -> None:
        """The loop sees finished work again, in its old place, once it is to be deleted."""
        made = submit(store, spec("a", tasks=2), spec("b"))
        put(store, replace(made[0], state="succeeded"), replace(tasks_of(store, "a")[1], state="succeeded"))
        store.wish("a", "delete", now_ms=5)
        assert names(store.live()) == ["a", "b"]
        assert [task.state for task in store.live().workloads[0][1]] == ["pending", "succeeded"]

    def test_work_that_is_finished_while_it_is_wished_deleted_stays_live(self, store: Store) -> None:
        """A commit that ends work, made from rows older than the wish, doesn't hide it from the loop."""
        (record,) = submit(store, spec("a"))
        store.wish("a", "delete", now_ms=5)
        put(store, replace(record, state="succeeded"))
        assert names(store.live()) == ["a"]

    def test_nothing_new_costs_nothing(self, store: Store) -> None:
        """The same object comes back until something changes."""
        submit(store, spec("a"))
        before = store.live()
        assert store.live() is before
        submit(store, spec("b"))
        assert names(before) == ["a"]
        assert names(store.live()) == ["a", "b"]


class TestCommit:
    def test_whole_records_are_written(self, store: Store) -> None:
        """Every field that the loop may set is read back, from the list of live work and by name."""
        (record,) = submit(store, spec("a", tasks=2))
        fresh = replace(
            record,
            state="running",
            started_ms=2,
            ended_ms=3,
            runs=4,
            failures=5,
            evictions=6,
            device_ms=2**53 + 1,
            hold=Hold("a", "NoRoom", "no room", {"NotEnoughGpu": 3}, {"gpu": 2}, 9),
            reason="because ü \U0001f600",
        )
        task = replace(
            tasks_of(store, "a")[1],
            state="running",
            attempt="x",
            node="n1",
            devices=(DeviceShare(0, 500), DeviceShare(1, 0, {"1g.10gb": 2})),
            started_ms=1,
            ended_ms=2,
            exit_code=137,
            reason="why",
            cause="reclaim",
            beneficiary="b",
        )
        put(store, fresh, task)
        assert record_of(store, "a") == fresh
        assert tasks_of(store, "a")[1] == task
        assert store.live().workloads == ((fresh, tasks_of(store, "a")),)
        assert store.page()[0] == (fresh,)
        assert store.tasks_of([record.id]) == tasks_of(store, "a")
        put(store, replace(fresh, state="failed"))
        assert store.find("a") == (replace(fresh, state="failed"), store.tasks_of([record.id]))

    def test_rows_of_gone_workloads_are_passed_over(self, store: Store) -> None:
        """A commit made from rows that are gone by now, or deleted by itself, writes the others."""
        gone, here, leaving = submit(store, spec("gone"), spec("here"), spec("leaving"))
        its_task = tasks_of(store, "gone")[0]
        never = replace(tasks_of(store, "here")[0], index=7)
        store.commit(Changes(deleted=(gone.id,)))
        store.commit(
            Changes(
                (replace(gone, runs=1), replace(here, runs=1), replace(leaving, runs=1)),
                (its_task, never),
                (event("still told", "gone"),),
                (leaving.id, gone.id),
            )
        )
        assert names(store.live()) == ["here"]
        assert record_of(store, "here").runs == 1
        assert [task.index for task in tasks_of(store, "here")] == [0]
        assert store.tasks_of([gone.id, leaving.id]) == ()
        assert store.events(newest=True, limit=1)[0].message == "still told"

    def test_a_wish_is_not_undone_by_an_older_view(self, store: Store) -> None:
        """A commit whose rows are older than a person's wish keeps the wish, and what was submitted."""
        (record,) = submit(store, spec("a"))
        store.wish("a", "stop", now_ms=5)
        put(store, replace(record, runs=1, spec=spec("a", "blue"), submitted_ms=9))
        found = record_of(store, "a")
        assert (found.wish, found.runs, found.spec, found.submitted_ms) == ("stop", 1, spec("a"), 1000)

    def test_finished_work_can_live_again(self, store: Store) -> None:
        """A commit may take back an end."""
        (record,) = submit(store, spec("a", tasks=2))
        put(store, replace(record, state="failed"))
        put(store, replace(record, state="pending"), replace(tasks_of(store, "a")[0], reason="anew"))
        assert names(store.live()) == ["a"]
        assert [task.reason for task in store.live().workloads[0][1]] == ["anew", ""]

    def test_deleted_work_is_gone_but_its_events_stay(self, store: Store) -> None:
        """Deleting drops a workload and its tasks."""
        (record,) = submit(store, spec("a"))
        store.commit(Changes(deleted=(record.id,)))
        assert store.find("a") is None
        assert store.tasks_of([record.id]) == ()
        assert store.page() == ((), "")
        assert [told.kind for told in store.events(workload="a")] == ["Submitted"]

    def test_nothing_to_commit(self, store: Store) -> None:
        """No changes are no fault."""
        store.commit(Changes())
        assert store.events() == ()


class TestWish:
    def test_wishes_are_recorded(self, store: Store) -> None:
        """Suspend, run and stop can follow each other while it lives; repeating one is no fault."""
        submit(store, spec("a"))
        wishes: tuple[Wish, ...] = ("suspend", "suspend", "run", "stop", "delete", "delete")
        for wish in wishes:
            assert store.wish("a", wish, now_ms=5).wish == wish
            assert record_of(store, "a").wish == wish
            assert store.live().workloads[0][0].wish == wish

    def test_of_nothing(self, store: Store) -> None:
        """There is nothing to wish of an unknown workload."""
        with pytest.raises(NotFound, match="'a'"):
            store.wish("a", "stop", now_ms=5)

    @pytest.mark.parametrize("wish", ["run", "suspend", "stop"])
    def test_finished_work_can_only_be_deleted(self, store: Store, wish: Wish) -> None:
        """What has ended can't be stopped or resumed."""
        (record,) = submit(store, spec("a"))
        put(store, replace(record, state="succeeded"))
        with pytest.raises(Conflict, match="a: has succeeded already"):
            store.wish("a", wish, now_ms=5)
        assert record_of(store, "a").wish == "run"
        assert store.wish("a", "delete", now_ms=5).wish == "delete"

    @pytest.mark.parametrize("wish", ["run", "suspend", "stop"])
    def test_a_deletion_is_not_taken_back(self, store: Store, wish: Wish) -> None:
        """After delete, nothing else can be wished."""
        submit(store, spec("a"))
        store.wish("a", "delete", now_ms=5)
        with pytest.raises(Conflict, match="being deleted"):
            store.wish("a", wish, now_ms=5)


class TestLists:
    def test_pages_newest_first(self, store: Store) -> None:
        """Pages follow each other without gap or repeat, whatever is submitted or deleted between them."""
        made = submit(store, *(spec(f"w{number}") for number in range(7)))
        first, rest = store.page(limit=3)
        assert [record.name for record in first] == ["w6", "w5", "w4"]
        submit(store, spec("new"))
        store.commit(Changes(deleted=(made[4].id, made[3].id)))
        second, rest = store.page(limit=3, after=rest)
        assert [record.name for record in second] == ["w2", "w1", "w0"]
        assert rest == ""

    def test_pages_by_state_and_project(self, store: Store) -> None:
        """Filters combine, and a page is full where enough match."""
        made = submit(store, *(spec(f"w{n}", "red" if n % 2 else "blue") for n in range(6)))
        put(store, replace(made[1], state="running"))
        put(store, replace(made[3], state="failed"))
        assert [r.name for r in store.page(project="red")[0]] == ["w5", "w3", "w1"]
        assert [r.name for r in store.page(states=("running", "failed"))[0]] == ["w3", "w1"]
        assert [r.name for r in store.page(states=["failed"], project="red")[0]] == ["w3"]
        assert store.page(states=["failed"], project="blue") == ((), "")
        records, rest = store.page(project="blue", limit=2)
        assert [r.name for r in records] == ["w4", "w2"]
        assert [r.name for r in store.page(project="blue", limit=2, after=rest)[0]] == ["w0"]

    @pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", " 1", "9" * 30])
    def test_a_made_up_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """A cursor that no page gave is a fault that names it."""
        with pytest.raises(BadFile, match="after: found"):
            store.page(after=cursor)

    def test_tasks_by_workload_and_rank(self, store: Store) -> None:
        """Tasks of several workloads, finished or not, come by workload id and rank; unknown ids have none."""
        one, two = submit(store, spec("a", tasks=11), spec("b", tasks=2))
        put(store, replace(one, state="failed"))
        found = store.tasks_of([two.id, one.id, one.id, "unknown"])
        assert [(task.workload_id, task.index) for task in found] == sorted(
            [(one.id, rank) for rank in range(11)] + [(two.id, rank) for rank in range(2)]
        )
        assert store.tasks_of([]) == ()

    def test_counts(self, store: Store) -> None:
        """Every state is counted, also those that don't occur."""
        made = submit(store, spec("a"), spec("b"), spec("c"))
        put(store, replace(made[1], state="failed"))
        assert store.counts() == {
            "pending": 2, "running": 0, "suspended": 0, "succeeded": 0, "failed": 1, "stopped": 0,
        }  # fmt: skip


class TestQueues:
    def test_set_and_replace(self, store: Store) -> None:
        """A queue is created, replaced as a whole, and keeps its age; setting it to what it is tells nothing."""
        store.set_queue(queue("b", gpus=4), now_ms=5)
        store.set_queue(queue("a"), now_ms=6)
        store.set_queue(queue("b", gpus=2), now_ms=7)
        store.set_queue(queue("b", gpus=2), now_ms=8)
        assert [(q.name, q.quota, q.created_ms) for q in store.queues()] == [
            ("a", Amounts(), 6), ("b", Amounts(gpu=2000), 5),
        ]  # fmt: skip
        assert store.live().queues == store.queues()
        assert [told.message for told in store.events()] == [
            "queue b created", "queue a created", "queue b changed",
        ]  # fmt: skip

    def test_parents_exist_and_run_in_no_circle(self, store: Store) -> None:
        """No order of changes makes a tree that isn't one."""
        store.set_queue(queue("a"), now_ms=5)
        store.set_queue(queue("b", "a"), now_ms=5)
        with pytest.raises(Conflict, match="circle"):
            store.set_queue(queue("a", "b"), now_ms=6)
        with pytest.raises(Conflict, match="circle"):
            store.set_queue(queue("c", "c"), now_ms=6)
        with pytest.raises(Conflict, match="parent 'x' does not exist"):
            store.submit([spec("w")], queues=[queue("d", "x")], key="", digest="", now_ms=6)
        assert [(q.name, q.parent) for q in store.queues()] == [("a", None), ("b", "a")]
        assert store.live().workloads == ()

    def test_a_queue_for_fresh_work_is_there(self, store: Store) -> None:
        """Before any queue names it, and for as long as one does."""
        sender = replace(queue("a"), demote=(10_000,), fresh="new")
        with pytest.raises(Conflict, match="fresh work 'new' does not exist"):
            store.set_queue(sender, now_ms=5)
        store.set_queue(queue("new"), now_ms=5)
        store.set_queue(sender, now_ms=5)
        with pytest.raises(Conflict, match="fresh work counts in it, of a"):
            store.delete_queue("new", now_ms=6)
        assert [(q.name, q.demote, q.fresh) for q in store.queues()] == [
            ("a", (10_000,), "new"),
            ("new", None, None),
        ]

    def test_delete(self, store: Store) -> None:
        """A queue goes when nothing is below it and its work is finished; otherwise the message names what is there."""
        store.set_queue(queue("company"), now_ms=5)
        store.set_queue(queue("red", "company"), now_ms=5)
        (record,) = submit(store, spec("a", "red"))
        with pytest.raises(Conflict, match="queues below it: red"):
            store.delete_queue("company", now_ms=6)
        with pytest.raises(Conflict, match="unfinished work: a"):
            store.delete_queue("red", now_ms=6)
        put(store, replace(record, state="stopped"))
        store.delete_queue("red", now_ms=6)
        store.delete_queue("company", now_ms=6)
        assert store.queues() == ()
        assert [told.kind for told in store.events(newest=True, limit=2)] == ["QueueDeleted", "QueueDeleted"]
        with pytest.raises(NotFound, match="'red'"):
            store.delete_queue("red", now_ms=7)


class TestEvents:
    def test_in_order_and_after(self, store: Store) -> None:
        """Numbers rise by one from 1; `after` and `limit` cut the oldest first, newest the last ones, in order, too."""
        store.commit(Changes(events=tuple(event(f"m{n}", "a" if n % 2 else "b") for n in range(6))))
        assert [(told.seq, told.message) for told in store.events()] == [(n + 1, f"m{n}") for n in range(6)]
        assert [told.seq for told in store.events(after=2, limit=2)] == [3, 4]
        assert [told.seq for told in store.events(newest=True, limit=2)] == [5, 6]
        assert [told.seq for told in store.events(after=5, newest=True)] == [6]
        assert [told.seq for told in store.events(workload="a")] == [2, 4, 6]
        assert [told.seq for told in store.events(workload="a", newest=True, limit=1)] == [6]
        assert store.events(after=6) == ()
        assert store.events(after=10**15) == ()

    def test_an_event_is_kept_as_it_was(self, store: Store) -> None:
        """All its fields are read back."""
        told = replace(event("ü \U0001f600 '\";--", "a"), kind="Lost")
        store.commit(Changes(events=(told,)))
        assert store.events() == (replace(told, seq=1),)

    def test_the_oldest_are_forgotten(self, store: Store) -> None:
        """However many are told, about a hundred thousand of the newest are kept."""
        for _ in range(21):
            store.commit(Changes(events=(event("m"),) * 5_000))
        kept = store.events(limit=200_000)
        assert 100_000 <= len(kept) <= 101_000
        assert kept[-1].seq == 105_000


def test_closing_twice_does_no_harm(store: Store) -> None:
    """A server may close on every way out."""
    store.close()
    store.close()
