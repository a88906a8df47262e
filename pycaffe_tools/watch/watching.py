"""The watch itself: looks into the folder, gives out what is whole, tells what becomes of it, and knows when to end.

One thread, the caller's, decides everything.  The workers' threads only read,
compute and write the slices that they are given, and report.

    >>> watch(WatchRequest("slices", "live", "runs/N", once=True))       # doctest: +SKIP
"""

from __future__ import annotations

import queue
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from ..base.progress import duration
from ..nets.model import Normalisation
from .board import Board
from .folder import Arrivals, FolderGone, Seen, Signature, WatchedFolder
from .notice import EndingSignals, Notice
from .pace import Pace
from .request import Asked, WatchRequest, ask
from .results import Done, Results
from .server import PageServer
from .summary import Summary, listed
from .work import FAILED, FINISHED, FIRST, LATE, STARTED, Job, Work

SHORTEST_LOOK = 0.2
"""Seconds between two looks at the folder at least, however much is told of it."""

TRY_AGAIN = 30.0
"""Seconds after which a slice that could not be read is tried again though its file is the same, since a share may have
failed; then after twice as long, and so on."""


class Failure(NamedTuple):
    """Why a slice could not be made."""

    sentence: str
    signature: Signature
    """Of the file that it could not be made from."""
    pause: float
    """Seconds before it is tried again."""
    until: float
    """When these are over."""


def watch(request: WatchRequest, say: Callable[[str], None] = print) -> Summary:
    """Segment the slices of a folder as they come, until the request says to end, or Ctrl-C.

    Parameters
    ----------
    request : what is to be watched.
    say : called with each line for the user.

    Raises
    ------
    UserError : what the user can put right; what is finished is kept.
    """
    asked, folder, results = ask(request), WatchedFolder(request.folder), Results(request.out)
    try:
        earlier = results.begin(asked.manifest, request.force)
        notice = Notice(folder.folder, request.poll)
        try:
            return Watch(asked, folder, results, notice, say).run(earlier)
        finally:
            notice.stop()
    finally:
        results.end()


class Watch:
    """State of a running watch; see :func:`watch`."""

    def __init__(self, asked: Asked, folder: WatchedFolder, results: Results, notice: Notice, say: Callable[[str], None]):
        self.request, self.asked = asked.request, asked
        self.folder, self.results, self.notice, self._say = folder, results, notice, say
        self.board = Board(results)
        self.pace = Pace(self.request.late_from if asked.late else None)
        self.arrivals = Arrivals(self.request.settle)
        self.done: Dict[str, Done] = {}
        self.failed: Dict[str, Failure] = {}
        self.in_hand: Dict[str, Job] = {}
        self._found: Dict[str, Signature] = {}
        self._there: Optional[Set[str]] = None
        """With ``--once``, what the first look found."""
        self._arrived: Dict[str, Signature] = {}
        self._again: Set[str] = set()
        self._gone: Optional[float] = None
        self._stopping = False
        self._changed = self._looked = float("-inf")
        self._begun = float("inf")
        self._order: Optional[str] = None
        self._drift = ""
        self._computed: Dict[str, Job] = {}
        self._before: List[str] = []
        self._delay = 0.0

    # -- telling ------------------------------------------------------------------------------------------------

    def tell(self, sentence: str, event: str, **facts: Any) -> None:
        """Say something to the user, and write it into the log."""
        now = time.time()
        self._say(f"{time.strftime('%H:%M:%S', time.localtime(now))}  {sentence}")
        self.results.log(event, now, **facts, said=sentence)

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, earlier: Optional[Dict[str, Any]]) -> Summary:
        """Watch until something ends it."""
        self.done = self.results.finished()
        self._before = sorted(self.done)
        for name, done in sorted(self.done.items(), key=lambda item: str(item[1].record["times"]["finished"])):
            self.board.add(name, done)
        self.work = Work(self.asked, self.folder, self.results, earlier, self.notice.ring)
        server = None if self.request.port is None else PageServer(self.board, self.request.host, self.request.port)
        try:
            with EndingSignals(self._interrupt):
                self.tell(f"watching {self.folder.path}: {self.notice.how}; {len(self.done)} slices finished before", "begun",
                          folder=self.folder.path, models={role: model.name for role, model in self.work.models.items()})
                if server is not None:
                    self._say(f"          the page is at {server.address}")
                why = self._loop()
        finally:
            self.work.stop()
            if server is not None:
                server.close()
        self._take_reports()
        summary = self._summary(why)
        self.tell(f"ended: {why}", "ended", finished=len(summary.computed) + len(summary.before), failed=len(summary.failed),
                  waiting=len(summary.waiting))
        return summary

    def _interrupt(self) -> None:
        self._stopping = True
        self.notice.ring()

    def _loop(self) -> str:
        while True:
            self._take_reports()
            if self._stopping:
                return "interrupted"
            clock = time.monotonic()
            due = self._looked + (SHORTEST_LOOK if self.notice.take() else self._interval(clock))
            if clock >= due:
                self._look(clock)
                due = self._looked + self._interval(clock)
            waiting = self._waiting(clock)
            while waiting and self._give(waiting[0], len(waiting)):
                waiting = waiting[1:]
            self._show(waiting)
            why = None if waiting or self.in_hand else self._why_to_end(clock)
            if why is not None:
                return why
            self.notice.wait(min(due - time.monotonic(), 1.0))

    def _interval(self, clock: float) -> float:
        """Seconds from one look at the folder to the next."""
        settling = self.arrivals.next_whole(clock)
        if self.request.poll is not None or settling is None:
            return self.notice.interval
        return max(SHORTEST_LOOK, min(self.notice.interval, settling))

    def _look(self, clock: float) -> None:
        self._looked, unnamed = clock, self.folder.unnamed
        try:
            found = self.folder.scan()
        except FolderGone as gone:
            if self._gone is None:
                self._gone = clock
                self.tell(f"{self.folder.path}: cannot be read now ({gone}); waiting for it", "folder gone")
            return
        if self._found and not found and self._gone is None:
            # What an unmounted share looks like; nothing is lost if it is an emptied folder.
            self.tell(f"{self.folder.path}: is empty, {len(self._found)} slices were there; waiting", "folder empty")
        if self._gone is not None:
            self.tell(f"{self.folder.path}: is there again after {duration(clock - self._gone)}", "folder back")
            self._gone, self._changed = None, clock
            self.notice.start()
        if self.request.once:
            self._there = self._there or set(found)
            found = {name: signature for name, signature in found.items() if name in self._there}
        self._found, self._begun = found, min(self._begun, clock)
        if self.folder.unnamed != unnamed:
            self.tell(f"warning: {len(self.folder.unnamed)} files are left out, since their names are not UTF-8 "
                      f"({listed(self.folder.unnamed)}); rename them", "warning")
        if self.arrivals.look(found, clock, time.time()) or self._changed < 0:
            self._changed = clock
        self._check_finished(clock)

    def _check_finished(self, clock: float) -> None:
        """Compare files that were touched since their slices were finished with what these were made from."""
        for name, seen in self.arrivals.whole(clock).items():
            done = self.done.get(name)
            if done is None or done.signature == seen.signature or name in self.in_hand:
                continue
            if self.work.grey_hash(name) == done.grey_sha256:
                record = {**done.record, "source": {**done.record["source"], **seen.signature._asdict()}}
                self.done[name] = self.results.record(name, record)
            else:
                del self.done[name]
                self._again.add(name)
                self.tell(f"{name}: was written again; it is computed again", "rewritten", slice=name)

    def _waiting(self, clock: float) -> List[str]:
        """Whole slices that are not begun, in their order."""
        whole = self.arrivals.whole(clock)
        new = [name for name, seen in whole.items()
               if name not in self.done and name not in self.in_hand and not self._is_hopeless(name, seen, clock)]
        if not new or self._gone is not None:
            return []
        ordered, sentence = self.folder.ordered(list(self._found))
        if sentence and sentence != self._order:
            self.tell(f"warning: segment would refuse this folder: {sentence}", "warning")
        self._order = sentence
        new = sorted(new, key={name: place for place, name in enumerate(ordered)}.__getitem__)
        for name in new:
            seen = whole[name]
            if self._arrived.get(name) != seen.signature:
                self._arrived[name] = seen.signature
                if seen.since > self._begun:        # what was there before tells nothing of how often one comes
                    self.pace.arrived(seen.since)
                self.results.log("arrived", seen.arrived, slice=name, bytes=seen.signature.bytes)
        return new

    def _is_hopeless(self, name: str, seen: Seen, clock: float) -> bool:
        """Whether a slice has failed, and nothing has changed since that lets one hope."""
        failure = self.failed.get(name)
        return failure is not None and failure.signature == seen.signature and (
            self.request.once or clock < failure.until)

    def _give(self, name: str, waiting: int) -> bool:
        seen = self.arrivals.whole(time.monotonic()).get(name)
        if seen is None:
            return True
        twin = next((other for other in (*self.done, *self.in_hand)
                     if other != name and self.results.path("mask", other) == self.results.path("mask", name)), None)
        if twin is not None:
            self._fail(name, seen, f"{self.folder.folder / name}: its results would have the same names as those of {twin}; give it "
                                   f"another name")
            return True
        was_late, late = self.pace.late, self.pace.choose(waiting)
        if late != was_late:
            model = self.work.models[LATE if late else FIRST].name
            self.tell(f"{model} goes on: {waiting} slices wait" if late else f"{model} goes on: no other slice waits", "model",
                      model=model, waiting=waiting)
        before = bool(self.work.computings)
        job = self.work.give(name, seen, late, name in self._again, waiting - 1)
        if job is None:
            return False
        self.in_hand[name] = job
        if not before:
            for sentence in self.work.warnings:
                self.tell(f"warning: {sentence}", "warning")
        return True

    # -- what has become of them ----------------------------------------------------------------------------------

    def _take_reports(self) -> None:
        self.work.check()
        while True:
            try:
                event, job = self.work.reports.get_nowait()
            except queue.Empty:
                return
            if event == STARTED and job.started is not None:
                self.results.log(event, job.started, slice=job.name, model=self.work.models[job.role].name)
            elif event == FINISHED and job.done is not None:
                self._finished(job, job.done)
            elif event == FAILED and job.sentence is not None:
                self.in_hand.pop(job.name, None)
                # Otherwise it was renamed, written again, or the folder is away: the next look tells.
                if self.folder.signature(job.name) == job.seen.signature:
                    self._fail(job.name, job.seen, job.sentence)

    def _fail(self, name: str, seen: Seen, sentence: str) -> None:
        before = self.failed.get(name)
        same = before is not None and before.signature == seen.signature
        pause = 2 * before.pause if before is not None and same else TRY_AGAIN
        self.failed[name] = Failure(sentence, seen.signature, pause, time.monotonic() + pause)
        if not same:
            self.tell(f"{name}: not segmented, and tried again when the file changes: {sentence}", "failed", slice=name)

    def _finished(self, job: Job, done: Done) -> None:
        name, times = job.name, done.record["times"]
        self.in_hand.pop(name, None)
        self.failed.pop(name, None)
        self._again.discard(name)
        self.done[name], self._computed[name] = done, job
        self._changed = time.monotonic()
        self.pace.finished(times["seconds"])
        self._delay = max(self._delay, times["delay"])
        self.board.add(name, done)
        model = self.work.models[job.role].name
        self.tell(f"{name}: segmented by {model} in {times['seconds']:.1f} s, {times['delay']:.1f} s after it came", "finished",
                  slice=name, model=model, seconds=times["seconds"], delay=times["delay"])
        self._tell_drift(name, done.record["grey"], self.work.models[job.role].normalisation)

    def _tell_drift(self, name: str, grey: Dict[str, Any], usual: Normalisation) -> None:
        before, self._drift = self._drift, grey["drift"]
        if self._drift and self._drift != before:
            self.tell(f"warning: the grey values from {name} on are unlike the training data, {self._drift}: mean {grey['mean']:.1f}, "
                      f"standard deviation {grey['std']:.1f}; trained on {usual.mean:.1f} and {usual.std:.1f}", "drift", slice=name)
        elif before and not self._drift:
            self.tell(f"the grey values from {name} on are usual again", "drift", slice=name)

    # -- the end --------------------------------------------------------------------------------------------------

    def _why_to_end(self, clock: float) -> Optional[str]:
        request = self.request
        if self._gone is not None:
            return None
        settled = self.arrivals.next_whole(clock) is None
        if request.slices is not None and settled and len(set(self.done) & set(self._found)) >= request.slices:
            return f"all {request.slices} slices are there"
        if request.once and settled:
            return "all that was there is done"
        if request.stop_after is not None and clock - self._changed >= request.stop_after:
            return f"no new slice for {request.stop_after:g} s"
        return None

    def _summary(self, why: str) -> Summary:
        failed = {name: failure.sentence for name, failure in self.failed.items() if name in self._found}
        waiting = [name for name in self._found if name not in self.done and name not in failed]
        there = set(self.done) & set(self._found)
        enough = self.request.slices is None or why == "interrupted" or len(there) >= self.request.slices
        return Summary(why, enough and not failed and not waiting, sorted(self._computed),
                       [name for name in self._before if name not in self._computed],
                       sorted(name for name, job in self._computed.items() if job.role == LATE),
                       sorted(name for name, job in self._computed.items() if job.again), failed, waiting,
                       sorted(set(self.done) - set(self._found)) if self._gone is None else [], self._delay)

    def _show(self, waiting: List[str]) -> None:
        """Tell how far behind the work is, and hand the page what it shows."""
        seen = self.arrivals.whole(time.monotonic())
        oldest = min((seen[name].arrived for name in waiting), default=None)
        sentence = self.pace.sentence(len(waiting), time.time() - oldest if oldest is not None else 0.0)
        if sentence is not None:
            self.tell(sentence, "behind" if waiting else "caught up", waiting=len(waiting), interval=self.pace.interval,
                      seconds=self.pace.seconds)
        model = self.work.models[LATE if self.pace.late else FIRST]
        self.board.put(folder=self.folder.path, gone=self._gone is not None, model=model.name, late=self.pace.late,
                       usual=model.normalisation._asdict(), waiting=waiting[:20], queue=len(waiting), oldest=oldest,
                       now_at=[name for name, job in self.in_hand.items() if job.started is not None], done=len(self.done),
                       seconds=self.pace.seconds, interval=self.pace.interval,
                       failed={name: failure.sentence for name, failure in self.failed.items() if name in self._found})
