"""Child processes answer, refuse in the child's words, and their end is told with its reason."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pycaffe_tools.base.child import Child, ChildDied, call_in_fork, child_environment
from pycaffe_tools.base.errors import UserError

ADDER = textwrap.dedent('''
    import os
    import sys
    from pycaffe_tools.base.child import serve
    from pycaffe_tools.base.errors import UserError

    def prepare(start):
        if start < 0:
            raise UserError("the start must not be negative")

        def handle(request):
            if request == "crash":
                raise ValueError("this is a defect")
            if request == "check":
                sys.stderr.write("F1125 10:00:00.000001 42 blob.cpp:33] Check failed: a >= b (1 vs. 2)\\n"
                                 "*** Check failure stack trace: ***\\n    @ 0x7f google::LogMessage::Fail()\\n")
                sys.stderr.flush()
                os.abort()
            if request == "threads":
                return os.environ["OMP_NUM_THREADS"]
            return start + request

        return handle

    if __name__ == "__main__":
        serve(prepare)
''')


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts children that add a number to what they are asked."""
    (tmp_path / "adder.py").write_text(ADDER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = []

    def begin(settings=10, **options):
        started.append(Child("adder", settings, **options))
        return started[-1]

    yield begin
    for child in started:
        child.close()


def test_answers_come_in_the_order_of_the_requests(start):
    child = start()
    for number in (1, 2, 3):
        child.send(number)
    assert [child.receive() for _ in range(3)] == [11, 12, 13]
    assert child.ask("threads") == "1"
    assert start(environment={"OMP_NUM_THREADS": "3"}).ask("threads") == "3"


def test_what_a_child_refuses_comes_in_its_words(start):
    child = start(-1)
    for _ in range(2):      # and it goes on answering
        with pytest.raises(UserError, match="^the start must not be negative$"):
            child.ask(1)


def test_a_defect_in_a_child_is_told_with_its_error(start):
    with pytest.raises(ChildDied, match="^ended with exit code 1, its last words were: ValueError: this is a defect$"):
        start().ask("crash")


def test_a_failed_check_in_caffe_is_told_without_its_stack_trace(start):
    with pytest.raises(ChildDied) as death:
        start().ask("check")
    assert death.value.code == -signal.SIGABRT
    assert str(death.value) == "was ended by signal 6, its last words were: Check failed: a >= b (1 vs. 2)"


def test_a_killed_child_is_told_by_its_signal(start):
    child = start()
    assert child.ask(0) == 10
    os.kill(child.process_id, signal.SIGKILL)
    with pytest.raises(ChildDied, match="^was ended by signal 9$"):
        child.ask(1)


def test_a_child_ends_when_its_parent_is_killed(start, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent('''
        import time
        from pycaffe_tools.base.child import Child
        child = Child("adder", 1)
        child.ask(1)
        print(child.process_id, flush=True)
        time.sleep(60)
    ''')], stdout=subprocess.PIPE, env=child_environment({}))
    number = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(100):
        try:
            state = open(f"/proc/{number}/stat").read().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":        # ended, and not yet collected by the system
            return
        time.sleep(0.05)
    os.kill(number, signal.SIGKILL)
    pytest.fail("the child outlives its parent")


def test_a_fork_returns_refuses_or_tells_its_end():
    big = list(range(100_000))

    def refuse():
        raise UserError("not with me")

    assert call_in_fork(lambda: big[::-1]) == big[::-1]
    with pytest.raises(UserError, match="^not with me$"):
        call_in_fork(refuse)
    with pytest.raises(ChildDied, match="signal 9"):
        call_in_fork(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildDied, match="exit code 1, its last words were: ZeroDivisionError"):
        call_in_fork(lambda: 1 / 0)
