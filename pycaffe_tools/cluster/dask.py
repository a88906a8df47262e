"""Functions that run on the workers of a Dask scheduler, wherever these are.

Dask starts workers on clusters of every kind (with dask-jobqueue on LSF, PBS, SGE and Slurm); here they are only used.
"""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence, Tuple, TypeVar

from ..base.errors import TemporaryError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

SECONDS = 30
"""To wait for a scheduler's answer."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A ``distributed.Client`` of a scheduler.

    Parameters
    ----------
    address : such as ``tcp://host:8786``, or the file that the scheduler wrote its address to (``--scheduler-file``).

    Raises
    ------
    UserError : the package is missing, nobody answers, or the scheduler has another version of it.
    """
    if importlib.util.find_spec("distributed") is None:
        raise UserError(f"--dask {address}: needs the package distributed; install it (pip install 'pycaffe-tools[dask]'), in the "
                        f"version that the scheduler has")
    import distributed

    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = distributed.Client(**where, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:     # TimeoutError, what is no address ...
        raise UserError(f"--dask {address}: no scheduler answers there ({_brief(error)}); start one (dask scheduler) and "
                        f"give its address") from None
    try:
        theirs = client.get_versions()["scheduler"]["packages"].get("distributed")
        if theirs != distributed.__version__:
            raise UserError(f"--dask {address}: the scheduler has distributed {theirs}, here is {distributed.__version__}; install "
                            f"one version everywhere")
        yield client
    finally:
        client.close(timeout=SECONDS)


def threads_of(client: Any) -> int:
    """Tasks that all workers together do at a time; 1 while there is none."""
    return max(1, sum(int(count) for count in client.nthreads().values()))


def in_turn(client: Any, function: Callable[[Task], Result], tasks: Sequence[Task],
            name: Callable[[Task], str]) -> Iterator[Tuple[Task, Result]]:
    """Run ``function(task)`` for each task on the workers; gives each result when it is there.

    What a worker was doing when it died is done again by another one.  When
    the caller stops before the end, or an error ends it, tasks that have not
    begun never begin.

    Parameters
    ----------
    function, tasks : have to be picklable, and the function importable on the workers.
    name : what to call a task in messages.

    Raises
    ------
    UserError : what ``function`` raised, or the workers lack this package.
    TemporaryError : several workers died of one task, or the scheduler is gone.
    """
    import distributed

    futures = [client.submit(function, task, pure=False) for task in tasks]
    task_of = {future.key: task for future, task in zip(futures, tasks)}
    try:
        for future in distributed.as_completed(futures, loop=client.loop):
            task = task_of[future.key]
            if future.cancelled():
                raise TemporaryError("dask: the scheduler is gone; what is finished is kept, start it and run the same command again")
            try:
                result = future.result()
            except UserError:
                raise
            except distributed.KilledWorker as death:
                raise TemporaryError(f"dask: workers died one after the other in {name(task)} ({_brief(death)}), probably because "
                                     f"memory ran out; give less with --max-memory, or start workers with more") from None
            except ImportError as error:
                raise UserError(f"dask: a worker cannot import what it needs ({_brief(error)}); install this package there as it "
                                f"is here") from None
            future.release()
            yield task, result
    finally:
        _cancel(client, futures)


def _cancel(client: Any, futures: List[Any]) -> None:
    left = [future for future in futures if future.status == "pending"]
    if left and client.status == "running":
        client.cancel(left, force=True)


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(". ")
