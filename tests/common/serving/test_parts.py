"""Jobs, results and memory on their own: order, bounds, ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Interrupted, PromptInvalid
from common.geometry.types import Box
from common.serving.engine_memory import EngineMemory, MemoryKey, Remembered
from common.serving.jobs import Job, JobQueue, Stage
from common.serving.replies import Rejected
from common.serving.results import ResultsNotFetched, ResultStore, as_array
from tests.common.serving.stage import wait_until


def test_jobs_run_in_order_one_at_a_time() -> None:
    queue, seen = JobQueue("q", 1), []
    jobs = [queue.submit(Job("k", lambda job, n=n: seen.append(n))) for n in range(5)]
    for job in jobs:
        job.ended.result(5)
    assert seen == [0, 1, 2, 3, 4]
    assert {job.stage for job in jobs} == {Stage.FINISHED}
    queue.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_the_workers_at_once(workers: int) -> None:
    queue, lock = JobQueue("q", workers), threading.Lock()
    now = most = 0

    def work(_: Job) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.03)
        with lock:
            now -= 1

    for job in [queue.submit(Job("k", work)) for _ in range(9)]:
        job.ended.result(5)
    assert most == workers
    queue.close()


def test_a_failing_job_harms_no_other() -> None:
    queue = JobQueue("q", 1)

    def fail(_: Job) -> None:
        raise ValueError("no")

    def refuse(_: Job) -> None:
        raise PromptInvalid("draw again")

    def interrupted(_: Job) -> None:
        raise Interrupted("stopped")

    jobs = [queue.submit(Job("k", work)) for work in (fail, refuse, interrupted, lambda _: 7)]
    assert isinstance(jobs[0].ended.exception(5), ValueError)
    assert isinstance(jobs[1].ended.exception(5), PromptInvalid)
    assert jobs[2].ended.result(5) is None and jobs[3].ended.result(5) == 7
    assert [job.stage for job in jobs] == [Stage.FAILED, Stage.FAILED, Stage.STOPPED, Stage.FINISHED]
    queue.close()


def test_a_stopped_job_in_line_ends_at_once_and_others_move_up() -> None:
    queue, go = JobQueue("q", 1), threading.Event()
    first = queue.submit(Job("k", lambda _: go.wait(10)))
    second, third = (queue.submit(Job("k", lambda job: job.stop.is_set())) for _ in range(2))
    wait_until(lambda: first.stage is Stage.RUNNING)
    assert [queue.position(job) for job in (first, second, third)] == [0, 1, 2]
    second.stop.set()
    assert second.ended.result(5) is True and second.stage is Stage.STOPPED
    assert queue.position(third) == 1
    go.set()
    assert third.ended.result(5) is False
    queue.close()


def test_a_long_line_is_refused_and_a_closed_queue_too() -> None:
    queue, go = JobQueue("q", 1, most_waiting=2), threading.Event()
    running = queue.submit(Job("k", lambda job: job.stop.wait(10)))
    wait_until(lambda: running.stage is Stage.RUNNING)
    waiting = [queue.submit(Job("k", lambda _: go.set())) for _ in range(2)]
    with pytest.raises(Rejected) as caught:
        queue.submit(Job("k", lambda _: None))
    assert caught.value.status == 503
    queue.close(5)
    assert all(job.ended.done() for job in [running, *waiting])
    with pytest.raises(Rejected):
        queue.submit(Job("k", lambda _: None))


def test_only_so_many_ended_jobs_are_remembered() -> None:
    queue = JobQueue("q", 1, keep_most=3)
    jobs = []
    for _ in range(6):
        jobs.append(queue.submit(Job("k", lambda _: None, track_id="t", results=ResultStore())))
        jobs[-1].ended.result(5)
    assert [queue.get(job.uuid) is not None for job in jobs] == [False] * 3 + [True] * 3
    assert queue.of_track("t") == jobs[3:]
    queue.forget(jobs[-1])
    assert queue.get(jobs[-1].uuid) is None
    soon = JobQueue("q", 1, keep_s=0.05)
    job = soon.submit(Job("k", lambda _: None))
    job.ended.result(5)
    time.sleep(0.1)
    assert soon.get(job.uuid) is None
    queue.close()
    soon.close()


def figure(frame: int, size: int = 0) -> dict[str, Any]:
    return {
        "id": str(frame),
        "objectId": 1,
        "geometryType": "bitmap",
        "geometry": {"bitmap": {"origin": [0, 0], "data": "x" * size}},
        "meta": {"frame": frame},
    }


@pytest.mark.parametrize(
    ("asked", "taken"), [((2, 3), [2, 3]), ((3, 2), [2, 3]), (None, [1, 2, 3, 4]), ((7, 9), []), ((4, 4), [4])]
)
def test_what_a_range_takes_is_gone(asked: tuple[int, int] | None, taken: list[int]) -> None:
    store = ResultStore()
    for frame in range(1, 5):
        store.put(frame, [figure(frame)], threading.Event())
    assert [item["meta"]["frame"] for item in store.pop(asked)] == taken
    assert [item["meta"]["frame"] for item in store.pop()] == [n for n in range(1, 5) if n not in taken]
    assert len(store) == 0


@given(
    puts=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=12),
    ranges=st.lists(st.one_of(st.none(), st.tuples(st.integers(-1, 10), st.integers(-1, 10))), max_size=6),
)
def test_every_figure_is_given_out_once(puts: list[tuple[int, int]], ranges: list[tuple[int, int] | None]) -> None:
    store = ResultStore()
    for number, (frame, count) in enumerate(puts):
        store.put(frame, [figure(frame) | {"id": f"{number}-{n}"} for n in range(count)], threading.Event())
    wanted = len(store)
    found = [(item["id"], item["meta"]["frame"], asked) for asked in ranges for item in store.pop(asked)]
    for _, frame, asked in found:
        assert asked is None or min(asked) <= frame <= max(asked)
    rest = store.pop()
    assert len({ident for ident, *_ in found} | {item["id"] for item in rest}) == len(found) + len(rest) == wanted
    assert (len(store), store._bytes) == (0, 0)


def test_a_full_store_waits_for_a_fetch_a_stop_or_gives_up() -> None:
    store, stop = ResultStore(max_bytes=3000, idle_s=0.3), threading.Event()
    store.put(1, [figure(1, 1500)], stop)
    with pytest.raises(ResultsNotFetched):
        store.put(2, [figure(2, 1500)], stop)
    waiting = threading.Thread(target=store.put, args=(2, [figure(2, 1500)], stop))
    waiting.start()
    assert len(store.pop()) == 1
    waiting.join(5)
    assert len(store) == 1
    stop.set()
    with pytest.raises(Interrupted):
        store.put(3, [figure(3, 1500)], stop)
    store.close()
    with pytest.raises(Interrupted):
        store.put(4, [figure(4)], threading.Event())
    big = ResultStore(max_bytes=10)
    big.put(1, [figure(1, 5000)], threading.Event())  # one that is larger than all must pass too
    assert len(big) == 1


def test_an_array_has_the_order_of_the_sdk() -> None:
    fields = (
        "id class_id updated_at created_at entity_id object_id project_id dataset_id frame_index geometry_type geometry"
    )
    fields += " geometry_meta tags meta area priority custom_data"
    row = dict(zip(fields.split(), as_array(figure(9)), strict=True))
    filled = {name: value for name, value in row.items() if value is not None}
    assert set(filled) == {"id", "object_id", "frame_index", "geometry_type", "geometry", "meta"}
    assert (row["frame_index"], row["object_id"]) == (9, 1)


def key(name: str, owner: bytes = b"a") -> MemoryKey:
    return MemoryKey(owner, name, 1, 1)


def remembered(size: int) -> tuple[Remembered, ...]:
    box = {"0": Box(np.array([0, 0, 1, 1]))}
    return (Remembered("drift", b"x" * size, 4, box, box),)


def test_memory_forgets_the_least_recently_used() -> None:
    memory = EngineMemory(max_entries=2, max_bytes=100)
    memory.put(key("a"), remembered(40))
    memory.put(key("b"), remembered(40))
    assert memory.get(key("a"))
    memory.put(key("c"), remembered(10))
    assert [bool(memory.get(key(name))) for name in "abc"] == [True, False, True]
    memory.put(key("d"), remembered(95))
    assert [bool(memory.get(key(name))) for name in "abcd"] == [False, False, False, True]
    assert (memory.bytes, len(memory)) == (95, 1)
    memory.put(key("e"), remembered(101))
    assert not memory.get(key("e")) and memory.get(key("d"))
    memory.put(key("d"), ())
    assert (memory.bytes, len(memory)) == (0, 0)


def test_memory_belongs_to_its_caller_and_passes() -> None:
    memory = EngineMemory(ttl_s=0.05)
    memory.put(key("a"), remembered(4))
    assert not memory.get(key("a", b"b"))
    assert memory.get(key("a"))
    time.sleep(0.1)
    assert not memory.get(key("a")) and memory.bytes == 0


def test_closing_waits_for_the_goodbye_of_jobs_in_line() -> None:
    """What they say it with (the connection to the server) is closed next."""
    queue, said = JobQueue("goodbyes", workers=1), []
    begun = threading.Event()

    def runs(job: Job) -> None:
        begun.set()
        job.stop.wait()

    def waits(job: Job) -> None:
        time.sleep(0.3)
        said.append(job.stop.is_set())

    queue.submit(Job("test", runs))
    begun.wait()
    queue.submit(Job("test", waits))
    queue.close()
    assert said == [True]
