"""Workers that run a network on tiles.

For most engines they are processes of one thread: Caffe's im2col and pooling run on one core,
and what goes wrong in Caffe (a failed check, too little memory) ends the whole
process without a word to Python.  The parent notices, says so, and goes on.
The native engine is run by threads of this process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, List

from ... import engines
from ...base.errors import UserError
from ...engines.process import AnyWorker, Settings, SharedWorker, Worker, WorkerDied

if TYPE_CHECKING:
    from .slice_queue import SliceQueue

DEATHS_IN_A_ROW = 3
"""After so many processes that ended without a result, something is wrong with more than one tile."""


def run_workers(queue: SliceQueue, settings: Settings, count: int, report: Callable[[int], None]) -> None:
    """Work through a queue with ``count`` workers, each led by a thread of this process.

    ``report`` is called with the number of tiles that are done.

    Raises
    ------
    UserError : workers cannot run this network, or die one after the other; or the disk is full.
    """
    done = [0]
    living: List[AnyWorker] = []
    lock = threading.Lock()
    shared = SharedWorker(settings) if settings.engine in engines.RUN_BY_THREADS else None

    def start() -> AnyWorker:
        worker = shared or Worker(settings)
        with lock:
            living.append(worker)
        return worker

    def lead() -> None:
        try:
            worker, deaths = start(), 0
            while True:
                task = queue.take()
                if task is None:
                    return
                for attempt in (1, 2):      # a worker may die of something that passes, such as too little memory
                    try:
                        queue.done(task, worker.predict(task.grey))
                        deaths = 0
                        break
                    except WorkerDied as death:
                        if queue.error is not None:
                            return
                        deaths += 1
                        if deaths >= DEATHS_IN_A_ROW:
                            raise UserError(f"segmenting: {death}, and so did the {deaths - 1} before it; what is "
                                            f"finished is kept, run the same command again when that is put right") from death
                        worker.close()
                        worker = start()
                        if attempt == 2:
                            queue.failed(task, str(death))
                with lock:
                    done[0] += 1
                    report(done[0])
        except WorkerDied as death:
            queue.stop(UserError(f"segmenting: {death}"))
        except BaseException as error:      # told to the main thread, which raises it
            queue.stop(error)

    threads = [threading.Thread(target=lead, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)            # in pieces, so that signals which another thread received get through
    except BaseException as error:
        queue.stop(error)
        raise
    finally:
        with lock:
            for worker in living:
                worker.close()
    if queue.error is not None:
        raise queue.error
