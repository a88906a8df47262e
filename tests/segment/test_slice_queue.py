"""The queue between the slices of a volume and the workers."""

import threading

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.ranges import Region
from pycaffe_tools.segment.slices.slice_queue import SliceQueue, slices_in_memory
from pycaffe_tools.segment.slices.tiles import PaddedSlice, grid

SHAPE = (6, 8)


class Account:
    """Reads slices of constant value, and writes down what the queue does with them."""

    def __init__(self, slices, capacity, unreadable=(), tile=(3, 4)):
        self.finished, self.failed = {}, {}
        self.in_memory = self.most = 0
        self.unreadable = unreadable
        self.queue = SliceQueue(slices, self.read, lambda grey: PaddedSlice(grey, Region(0, 6, 0, 8), (1, 1)),
                                grid(SHAPE, tile), SHAPE, self.finish, self.fail, capacity)

    def read(self, z):
        if z in self.unreadable:
            raise UserError(f"slice {z}: is damaged")
        self.in_memory += 1
        self.most = max(self.most, self.in_memory)
        return np.full(SHAPE, z, np.float32) if z != 99 else np.full(SHAPE, np.nan, np.float32)

    def finish(self, z, grey, probability):
        self.finished[z] = probability.copy()
        self.in_memory -= 1

    def fail(self, z, sentence):
        self.failed[z] = sentence

    def work(self, break_on=None):
        while True:
            task = self.queue.take()
            if task is None:
                return
            if task.z == break_on:
                self.queue.failed(task, "broken")
            else:
                self.queue.done(task, task.grey[1:-1, 1:-1] * 2)


@pytest.mark.parametrize("threads", [1, 4])
def test_every_slice_comes_back_whole_and_few_are_in_memory(threads):
    account = Account(range(20), capacity=2)
    workers = [threading.Thread(target=account.work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert sorted(account.finished) == list(range(20)) and not account.failed
    assert all((result == 2 * z).all() for z, result in account.finished.items())
    assert account.most <= 2


def test_another_slice_is_read_only_when_one_is_finished():
    account = Account([0, 1, 2], capacity=2, tile=SHAPE)
    tasks = [account.queue.take(), account.queue.take()]
    waiting = threading.Thread(target=lambda: tasks.append(account.queue.take()))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and account.most == 2
    account.queue.done(tasks[0], np.zeros(SHAPE, np.float32))
    waiting.join(20)
    assert tasks[2].z == 2 and account.most == 2


def test_a_slice_that_cannot_be_read_fails_alone():
    account = Account([0, 1, 2, 99], capacity=2, unreadable=(0, 2))
    account.work()
    assert sorted(account.finished) == [1]
    assert account.failed[0] == "slice 0: is damaged" and "not finite" in account.failed[99]


def test_a_tile_that_fails_takes_its_slice_with_it_and_no_other():
    account = Account([0, 1, 2], capacity=1)
    account.work(break_on=1)
    assert sorted(account.finished) == [0, 2] and account.failed == {1: "broken"}


def test_two_workers_get_tiles_of_one_slice_at_a_time():
    account = Account([5], capacity=1)
    first, second = account.queue.take(), account.queue.take()
    assert first.z == second.z == 5 and first.tile != second.tile


def test_stopping_wakes_whoever_waits_for_room():
    account = Account([0, 1], capacity=1, tile=SHAPE)
    account.queue.take()
    seen = []
    waiting = threading.Thread(target=lambda: seen.append(account.queue.take()))
    waiting.start()
    account.queue.stop(UserError("enough"))
    waiting.join(20)
    assert seen == [None] and str(account.queue.error) == "enough"


def test_enough_slices_are_open_for_all_workers_and_not_more():
    assert slices_in_memory(workers=2, tiles=100) == 2
    assert slices_in_memory(workers=8, tiles=2) == 5
