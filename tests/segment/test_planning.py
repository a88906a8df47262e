"""Tiles and workers are chosen so that the predicted memory stays within what is allowed."""

import pytest

from pycaffe_tools import engines
from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.host import machine
from pycaffe_tools.base.ranges import parse_size
from pycaffe_tools.nets import paper
from pycaffe_tools.nets.files.schema import parse_prototxt
from pycaffe_tools.nets.netgraph import NetGraph
from pycaffe_tools.segment import planning as memory

GRAPH = NetGraph(parse_prototxt(paper.deploy_prototxt(paper.TABLE_1["N"], "N"), "N"))
JOB = memory.Job((2301, 3069), (2301, 3069), 689, 1, 4, False, 60_000_000)


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """An engine whose memory is easily reckoned: 50 MB and 1 kB a pixel."""
    sides = (512, 256, 128, 64, 32, 16)

    def predicted_bytes(name, graph, tile, threads=1):
        return 50_000_000 + 1000 * tile[0] * tile[1]

    def best_tile(name, graph, max_bytes):
        for side in sides:
            if predicted_bytes(name, graph, (side, side)) <= max_bytes:
                return side, side
        raise UserError("too little")

    monkeypatch.setattr(engines, "predicted_bytes", predicted_bytes)
    monkeypatch.setattr(engines, "best_tile", best_tile)


def plan(limit, workers=4, tile=None, job=JOB):
    return memory.make_plan("any", GRAPH, job, workers, limit, tile)


def test_with_memory_to_spare_all_workers_get_the_best_tile():
    chosen = plan(10**10)
    assert chosen.workers == 4 and 400 <= min(chosen.tile) and max(chosen.tile) <= 512


def test_less_memory_means_smaller_tiles_first_then_fewer_workers_then_a_refusal():
    seen = []
    for limit in range(2_000_000_000, 100_000_000, -20_000_000):
        try:
            chosen = plan(limit)
        except UserError:
            break
        assert chosen.peak <= limit
        seen.append((chosen.workers, chosen.tile[0] * chosen.tile[1]))
    workers = [count for count, _ in seen]
    assert workers == sorted(workers, reverse=True) and set(workers) == {1, 2, 3, 4}
    for count in range(1, 5):
        areas = [area for workers, area in seen if workers == count]
        assert areas == sorted(areas, reverse=True)
    assert min(area for count, area in seen if count > 1) >= 50 * 50


def test_a_refusal_names_the_least_that_would_do_and_that_does():
    with pytest.raises(UserError, match="least that would do is ([0-9]+M)") as refusal:
        plan(parse_size("100M"))
    least = parse_size(str(refusal.value).split()[-1])
    assert plan(least).workers == 1
    with pytest.raises(UserError):
        plan(least - 2_000_000)


def test_memory_does_not_depend_on_the_number_of_slices():
    assert plan(10**9) == plan(10**9, job=JOB._replace(slices=100_000))


def test_a_single_small_slice_still_gives_every_worker_something_to_do():
    job = JOB._replace(region=(300, 300), slices=1)
    chosen = plan(10**10, workers=2, job=job)
    assert chosen.workers == 2 and chosen.tiles >= 4


def test_no_more_workers_than_tiles():
    assert plan(10**10, workers=8, tile=(40, 40), job=JOB._replace(region=(40, 40), slices=3)).workers == 3


def test_a_tile_that_the_user_fixed_is_kept_and_workers_make_room():
    chosen = plan(700_000_000, tile=(512, 512))
    assert chosen.tile == (512, 512) and chosen.workers == 1
    with pytest.raises(UserError, match="512x512"):
        plan(300_000_000, tile=(512, 512))


def test_this_machine_has_memory_and_cores():
    assert machine.cores() >= 1
    assert 10**8 <= memory.default_limit(2).amount <= 3 * 10**9
    assert machine.available_memory() >= 10**8
    assert 10**7 < machine.peak_so_far() < 10**11


@pytest.mark.parametrize("variables, amount, source", [
    ({}, 32, "all cores"),
    ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4, "SLURM_CPUS_PER_TASK"),
    ({"SLURM_CPUS_ON_NODE": "16"}, 16, "SLURM_CPUS_ON_NODE"),
    ({"SLURM_CPUS_PER_TASK": "64"}, 32, "all cores"),
    ({"SLURM_CPUS_PER_TASK": "many"}, 32, "all cores"),
])
def test_a_batch_jobs_cores_are_what_it_was_given(monkeypatch, variables, amount, source):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(32)))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 32)
    assert machine.core_limit(variables) == (amount, source)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 48)
    assert machine.core_limit({}) == (32, "the cores that this process may run on")


@pytest.mark.parametrize("variables, limit", [
    ({}, (3 * 10**9, "1 GB for each worker and this process")),
    ({"SLURM_MEM_PER_NODE": "1500"}, (1500 * 2**20 * 4 // 5, "four fifths of SLURM_MEM_PER_NODE")),
    ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "2"}, (2000 * 2**20 * 4 // 5, "four fifths of SLURM_MEM_PER_CPU")),
    ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "3"}, (3000 * 2**20 * 4 // 5, "four fifths of SLURM_MEM_PER_CPU")),
    ({"SLURM_MEM_PER_NODE": "0"}, (3 * 10**9, "1 GB for each worker and this process")),
    ({"SLURM_MEM_PER_NODE": "64000"}, (3 * 10**9, "1 GB for each worker and this process")),
])
def test_a_batch_jobs_memory_is_what_it_was_given(monkeypatch, variables, limit):
    monkeypatch.setattr(memory, "free_memory", lambda: machine.Limit(10**10, "what is free"))
    assert memory.default_limit(2, variables) == limit
    monkeypatch.setattr(memory, "free_memory", lambda: machine.Limit(10**9, "what is free"))
    assert memory.default_limit(2, variables) == (5 * 10**8, "half of what is free")
