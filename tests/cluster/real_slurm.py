"""A real Slurm for tests: its own daemons, on loopback, with everything in one folder, ended by the ids they were started with."""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
START = 90.0
"""Seconds within which daemons come up, or never do."""
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
KillWait=5
MessageTimeout=10
MinJobAge=300
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MaxArraySize={most}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def what_is_missing():
    """Why there can be no Slurm here, as a sentence; None if there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"Slurm is not installed here ({', '.join(missing)} missing)"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root alone"
    try:
        loopback = socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        loopback = False
    return None if loopback else "the name of this computer does not resolve to loopback, where Slurm has to stay"


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Slurm:
    """A running cluster of two nodes of one core."""

    def __init__(self, folder: Path, most=1001):
        self.folder = folder
        self.environment = dict(os.environ, SLURM_CONF=str(folder / "slurm.conf"), PATH=PATH)
        self._processes = {}
        for name in ("munge", "state", "spool-n1", "spool-n2"):
            (folder / name).mkdir(parents=True, mode=0o700)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=socket.gethostname(), user=getpass.getuser(),
                                                       ports=free_ports(3), most=most))
        try:
            self._start("munged", "--foreground", "--force", *(f"--{name}={folder}/munge/{file}" for name, file in (
                ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))))
            wait_until(lambda: (folder / "munge" / "socket").exists(), "munged", START)
            self._start("slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
            wait_until(lambda: self.ask("sinfo", "--noheader", "--format=%T", check=False).strip() == "idle", "Slurm's nodes", START)
        except BaseException:
            self.close()
            raise

    def _start(self, name, *arguments, key=None):
        log = open(self.folder / f"{key or name}.out", "ab")
        self._processes[key or name] = subprocess.Popen([shutil.which(name, path=PATH), *arguments], env=self.environment,
                                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()

    def start_node(self, node):
        self._start("slurmd", "-D", "-N", node, key=node)

    def kill_node(self, node):
        """End a node's daemon and all that runs there without a word, as when the power fails."""
        daemon = self._processes.pop(node)
        for pid in [daemon.pid, *self.processes_of(node)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()

    def processes_of(self, node):
        """Numbers of the processes of this cluster's jobs on a node, and of what watches over them there."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if {f"SLURM_CONF={self.folder}/slurm.conf".encode(), f"SLURMD_NODENAME={node}".encode()} <= set(variables):
                found.add(int(folder.name))
                if "slurmstepd" in name_of(parent):
                    found.add(parent)
        return sorted(found)

    def ask(self, *command, check=True):
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self):
        """State of each job and task that Slurm knows: its number (12, or 12_3) to state."""
        found = {}
        for line in self.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines():
            name, state = line.split()
            found[name] = state
        return found

    def cancel_all(self):
        """Cancel all jobs that have not ended."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        for job in {name.split("_")[0] for name, state in self.jobs_or_none().items() if state not in ended}:
            self.ask("scancel", job, check=False)

    def close(self):
        """End what was started."""
        if "slurmctld" in self._processes:
            self.cancel_all()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not any(state in ("RUNNING", "COMPLETING") for state in self.jobs_or_none().values()), "jobs", 20)
        for key in (*NODES, "slurmctld", "munged"):
            process = self._processes.pop(key, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def jobs_or_none(self):
        try:
            return self.jobs()
        except (AssertionError, subprocess.TimeoutExpired):
            return {}


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def waits_for(pid, number):
    """Whether a signal waits for a process that is halted."""
    pending = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) & 1 << number - 1)


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def wait_until(condition, what, seconds=240.0, pause=0.05):
    """Wait for a condition; ``what`` is a text or a function that gives it, for the failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what() if callable(what) else what} in vain"
        time.sleep(pause)
