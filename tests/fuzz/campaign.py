"""Run damaged inputs and kills, and count how they end.

    python -m tests.fuzz.campaign --inputs 2000 --kills 200 --seed 0 -o docs/campaign.md

Each input is damaged in a copy of a small corpus and given to a command in a
forked child with limits of time and memory.  A good end is success with
finite output, or one sentence that names a file, with nothing half-written.
Kills end a command with SIGKILL at a random moment and run it again: the
result has to be that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import corpus, kills
from .corpus import CASES, COMMANDS, Case
from .mutate import damage

SECONDS, BYTES = 60, 6 << 30
GOOD = ("fine", "refused")
OUTCOMES = (*GOOD, "traceback", "died", "too long", "not finite", "no file named", "half-written", "many sentences")


class Result(NamedTuple):
    """How one damaged input ended."""

    case: Case
    target: str
    seed: int
    how: str
    outcome: str
    said: str


def one(case: Case, seed: int, base: Path, place: Path) -> Result:
    """Damage one file of a fresh copy and run the command on it."""
    shutil.rmtree(place, ignore_errors=True)
    corpus.copy(base, place)
    chance = random.Random(seed)
    pattern = chance.choice(case.targets)
    target = chance.choice(sorted(place.glob(pattern)))
    how = damage(target, seed)
    code, said, seconds = run_case(case, place)
    return Result(case, str(target.relative_to(place)), seed, how, _outcome(case, place, code, said, seconds), said[-400:])


def run_case(case: Case, place: Path) -> Tuple[Optional[int], str, float]:
    """Run a case's command in a forked child: exit code (negative: a signal; None: too long), what it said, seconds."""
    log = place / "said"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(place)
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 2)
            os.dup2(descriptor, 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            code = COMMANDS[case.argv[0]](list(case.argv[1:]))
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if 0 <= code < 256 else 98)
    status: Optional[int] = None
    while time.monotonic() - start < SECONDS:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.005)
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = None
    code = None if status is None else -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code, log.read_text(errors="replace") if log.is_file() else "", time.monotonic() - start


def _outcome(case: Case, place: Path, code: Optional[int], said: str, seconds: float) -> str:
    if code is None:
        return "too long"
    if "Traceback (most recent call last)" in said or code in (98, 99):
        return "traceback"
    if code < 0:
        return "died"
    if code == 0:
        return "not finite" if any(corpus.not_finite(place / name) for name in case.outputs) else "fine"
    errors = [line for line in said.splitlines() if line.startswith(("error:", "Error:"))]
    if len(errors) != 1:
        return "many sentences" if len(errors) > 1 or "failed:" not in said else "refused"
    files = {part for argument in case.argv[1:] if (place / argument).exists() for part in (argument, str(place / argument))}
    if not any(name in errors[0] for name in {*files, *case.outputs, *case.targets, str(place)}):
        return "no file named"
    if not case.keeps and any((place / name).exists() for name in case.outputs):
        return "half-written"
    return "refused"


def run_inputs(base: Path, count: int, seed: int, report: bool = True) -> List[Result]:
    """So many damaged inputs, the cases in turns."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            results.append(one(CASES[number % len(CASES)], seed * 1_000_003 + number, base, Path(folder) / "w"))
            if report and results[-1].outcome not in GOOD:
                print(f"{number}: {results[-1].outcome}: {' '.join(results[-1].case.argv[:2])} with {results[-1].target} "
                      f"({results[-1].how}): {results[-1].said.strip().splitlines()[-1:]}", flush=True)
    return results


def table(results: List[Result]) -> List[str]:
    """Outcomes by kind of input, as Markdown."""
    counts: Dict[str, Counter] = defaultdict(Counter)
    for result in results:
        counts[result.case.kind][result.outcome] += 1
    lines = ["| damaged | inputs | " + " | ".join(OUTCOMES) + " |", "|---|" + "---:|" * (len(OUTCOMES) + 1)]
    for kind in [*dict.fromkeys(case.kind for case in CASES)]:
        if counts[kind]:
            lines.append(f"| {kind} | {sum(counts[kind].values())} | "
                         + " | ".join(str(counts[kind][outcome]) for outcome in OUTCOMES) + " |")
    total = sum(counts.values(), Counter())
    return [*lines, f"| all | {sum(total.values())} | " + " | ".join(str(total[outcome]) for outcome in OUTCOMES) + " |"]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="Markdown file to write the tables to.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "corpus"
        corpus.build(base)
        results = run_inputs(base, options.inputs, options.seed)
        killed = kills.run_kills(base, options.kills, options.seed)
    lines = [*table(results), "", *kills.table(killed)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text(HEAD.format(inputs=len(results), kills=len(killed), seed=options.seed) + "\n".join(lines) + "\n")
    return int(any(result.outcome not in GOOD for result in results) or any(not kill.same for kill in killed))


HEAD = """# Damaged inputs and kills

`make fuzz` damages small valid inputs and gives them to every command, and kills commands at random moments and runs them
again. This is its last run: {inputs} inputs, {kills} kills, seed {seed}.

*Fine*: success with finite output; the damage did not matter, or lies in pixels. *Refused*: one sentence that names a
file, an exit code that is not 0, nothing half-written. All other columns are defects.

"""

if __name__ == "__main__":
    sys.exit(main())
