"""Times of Table 2 are of one thread, whatever BLAS was told before."""

import pytest

threadpoolctl = pytest.importorskip("threadpoolctl")

import numpy as np

from pycaffe_tools import engines, timing


class Counting:
    """An engine that notes how many threads BLAS would take."""

    halo = (1, 1)

    def __init__(self):
        self.threads = set()

    def predict(self, grey):
        self.threads |= {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
        return grey[1:-1, 1:-1] @ np.eye(grey.shape[1] - 2, dtype=grey.dtype)


def test_one_thread_of_blas_in_a_process_that_began_with_two(monkeypatch):
    engine = Counting()
    monkeypatch.setattr(engines, "create", lambda *arguments, **options: engine)
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        if {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"} != {2}:
            pytest.skip("this BLAS cannot be given two threads")
        found = timing.time_engine("any", None, None, (4, 8), repetitions=2)
    assert engine.threads == {1}
    assert found.seconds <= found.longest and found.repetitions == 2
