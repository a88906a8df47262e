"""Times of slices: the counts that are chosen keep the promise, on machines whose stairs the model does not know."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("onnxruntime")

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets import paper
from pycaffe_tools.ordering.cost.dense_time import dense_work, measure_time, write_time
from pycaffe_tools.prune.__main__ import cli
from pycaffe_tools.prune.options import parse_seconds, parse_slice_size
from pycaffe_tools.prune.targets.slice_time import NEAR, ROUNDS, SliceTime, steps_within_time
from pycaffe_tools.prune.targets.walks import Walk, first_index

from ..conftest import ROOT
from ..oracle_nets import SMALL_COUNTS, graph

SHAPE = (1000, 2000)


class Straight(Walk):
    """A feature of each layer in turn, c1 first."""

    least = dict.fromkeys(SMALL_COUNTS, 1)

    def counts(self, steps):
        left = dict(SMALL_COUNTS)
        while steps:
            for name in left:
                if steps and left[name] > 1:
                    left[name] -= 1
                    steps -= 1
        return left

    def to_the_end(self):
        return sum(SMALL_COUNTS.values()) - len(SMALL_COUNTS)

    def first(self, holds):
        return first_index(lambda steps: holds(self.counts(steps)), self.to_the_end())


def linear(net, engine, tile, workers):
    work, traffic = dense_work(net)
    return 1e-8 + 5e-11 * traffic + 3e-10 * sum(work.values())


class Stairs:
    """A machine that takes blocks of channels, and is slower than it was when the model was made; counts its measurements."""

    def __init__(self, block=1, slower=1.0, twist=0.0):
        self.block, self.slower, self.twist, self.calls = block, slower, twist, 0

    def __call__(self, net, engine, tile, workers):
        self.calls += 1
        counts = {name: net.layer(name).num_output for name in SMALL_COUNTS}
        blocks = sum(-(-count // self.block) * self.block for count in counts.values()) / sum(SMALL_COUNTS.values())
        return self.slower * (linear(net, engine, tile, workers) + self.twist * 1e-7 * blocks)


def slice_time(machine, record=None, here=True):
    model = measure_time(graph("small"), "onnxruntime", 2, linear)
    if not here:
        model = model._replace(processor="another")
    return SliceTime(model, SHAPE, record, machine)


def whole_seconds():
    return linear(graph("small"), "", None, 2) * SHAPE[0] * SHAPE[1] / 2


def true_quotient(machine, counts):
    from pycaffe_tools.ordering.cost.model import with_counts
    net = graph("small")
    return machine(with_counts(net, counts), "", None, 2) / machine(net, "", None, 2)


def test_a_slice_takes_its_pixels_divided_among_the_workers():
    time = slice_time(Stairs())
    assert time.whole == pytest.approx(whole_seconds(), rel=1e-6)
    assert time.modelled({}) == pytest.approx(time.whole, rel=1e-3)
    assert time.measured({"c1": 3}) == pytest.approx(time.modelled({"c1": 3}), rel=1e-3)


@pytest.mark.parametrize("part", [0.9, 0.5, 0.25, 0.15])
@pytest.mark.parametrize("machine", [{}, {"slower": 3.0}, {"twist": 5.0}, {"block": 3, "twist": 5.0}])
def test_the_time_asked_for_is_kept_and_a_feature_more_would_not_keep_it(part, machine):
    """The limit is a part of the way from the fastest net to the whole one, on that machine."""
    time, walk, machine = slice_time(Stairs(**machine)), Straight(), Stairs(**machine)
    fastest = true_quotient(machine, walk.least)
    limit = time.whole * (fastest + part * (1 - fastest))
    found = steps_within_time(walk, time, limit, "--target-time")
    true = [time.whole * true_quotient(machine, walk.counts(steps)) for steps in (found.steps, found.steps - 1)]
    assert found.seconds == pytest.approx(true[0]) and true[0] <= limit
    assert true[0] >= limit * (1 - NEAR) or true[1] > limit


def test_measurements_correct_the_model_so_that_few_are_needed():
    tries = 0
    for part in (0.9, 0.5, 0.25, 0.15):
        machine, walk = Stairs(twist=5.0), Straight()
        time = slice_time(machine)
        fastest = true_quotient(Stairs(twist=5.0), walk.least)
        steps_within_time(walk, time, time.whole * (fastest + part * (1 - fastest)), "x")
        tries += machine.calls // (2 * ROUNDS)
    assert tries <= 11


def test_a_time_that_the_whole_net_keeps_prunes_nothing():
    assert steps_within_time(Straight(), slice_time(Stairs()), 1.01 * whole_seconds(), "x").steps == 0


def test_a_time_that_cannot_be_reached_is_refused_with_the_fastest():
    time = slice_time(Stairs())
    fastest = time.measured(Straight.least)
    with pytest.raises(UserError, match=f"--target-time 1s: cannot be reached, the fastest possible is {fastest:.3g} s for a slice "
                                        f"of 2000x1000 .*, with c1 1, c2 1, c3 1, fc4 1; ask for at least that"):
        steps_within_time(Straight(), time, 0.9 * fastest, "--target-time 1s")


def test_a_model_that_is_too_pessimistic_is_not_believed_about_the_fastest():
    time, walk = slice_time(Stairs()), Straight()
    limit = 1.5 * time.modelled(walk.least)
    slow = time.model._replace(constant=time.model.constant + 1e-7)
    assert slow.cost(walk.least) * SHAPE[0] * SHAPE[1] / 2 > limit
    found = steps_within_time(walk, SliceTime(slow, SHAPE, None, Stairs()), limit, "x")
    assert found.seconds <= limit


def test_what_was_measured_is_kept_and_chosen_again(tmp_path):
    record = tmp_path / "measured.json"
    first, machine = slice_time(Stairs(block=3, twist=5.0), record), Stairs()
    found = steps_within_time(Straight(), first, 0.5 * first.whole, "x")
    again = slice_time(machine, record)
    assert steps_within_time(Straight(), again, 0.5 * again.whole, "x") == found and machine.calls == 0
    assert again.as_json(Straight().counts(found.steps))["measured"] == found.seconds
    content = json.loads(record.read_text())
    documented = (ROOT / "docs" / "file-formats.md").read_text().split("### Time model")[1].split("\n###")[0]
    assert all(f"`{name}`" in documented for name in (*set(content) - {"format"}, *content["measured"][0]))
    record.write_text(json.dumps({**content, "processor": "another"}))
    assert slice_time(machine, record).measured(Straight().counts(found.steps)) and machine.calls > 0
    record.write_text(json.dumps({**content, "measured": 3}))
    with pytest.raises(UserError, match="measured.json: is not a file of measured times"):
        slice_time(machine, record)


def test_for_another_machine_the_model_alone_decides():
    machine = Stairs()
    time = slice_time(machine, here=False)
    found = steps_within_time(Straight(), time, 0.5 * time.whole, "x")
    assert machine.calls == 0 and found.seconds == time.modelled(Straight().counts(found.steps)) <= 0.5 * time.whole
    assert time.as_json(Straight().counts(found.steps))["measured"] is None
    assert time.modelled(Straight().counts(found.steps - 1)) > 0.5 * time.whole


def test_times_and_sizes_are_read_as_written():
    assert [parse_seconds(text) for text in ("4s", "4", "500ms", "1.5 min", ".5s")] == [4, 4, 0.5, 90, 0.5]
    assert parse_slice_size("3069x2301") == paper.SLICE_SHAPE
    for wrong in ("0s", "-1s", "4h", "s", "nan", "1e3"):
        with pytest.raises(UserError, match="--target-time .* is not a time"):
            parse_seconds(wrong)
    for wrong in ("3069", "0x5", "3x-1", "5x5x5"):
        with pytest.raises(UserError, match="--slice-size .* WIDTHxHEIGHT"):
            parse_slice_size(wrong)


@pytest.mark.parametrize("options, sentence", [
    ((), "exactly one of NET"), (("N7", "--target-time", "4s"), "exactly one of NET"),
    (("N7", "--cost", "time"), "--cost has a meaning only with --global"),
    (("N7", "--engine", "native"), "--engine has a meaning only with --target-time"),
    (("N7", "--global", "--cost", "macs", "--slice-size", "5x5"), "--slice-size has a meaning only with"),
    (("N7", "--retrain-iterations", "5"), "--retrain-iterations has a meaning only with --rounds"),
    (("N7", "--global", "--criterion", "l1"), "--criterion has no meaning"),
    (("N7", "--global", "--full-order"), "it has no meaning for --global"),
    (("N7", "--global", "--direction", "top-down"), "not with --global"),
])
def test_options_that_would_do_nothing_are_refused(options, sentence):
    result = CliRunner().invoke(cli, [*options, "--from", "a", "--data", "b", "--out", "c"])
    assert result.exit_code == 2 and sentence in " ".join(result.output.split())


# -- from the command to the model -------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def model(database, tmp_path_factory):
    """A model, and the file of a time model of it, made on an imagined machine."""
    from .cases import small_model
    folder = tmp_path_factory.mktemp("models")
    made = small_model(folder / "small", database)
    times = measure_time(made.net(), "onnxruntime", 2, linear)
    write_time(folder / "time.json", times._replace(processor="an imagined machine"))
    return made, folder / "time.json", times


def call(model, database, out, *options):
    made, times, _ = model
    return CliRunner().invoke(cli, [
        "--from", str(made.directory), "--data", str(database.directory), "--out", str(out), "--batches", "2",
        "--batch-size", "20", "--workers", "1", "--time-model", str(times), *options], catch_exceptions=True)


@pytest.mark.caffe
@pytest.mark.parametrize("order", [(), ("--global",), ("--global", "--cost", "parameters")])
def test_a_time_of_the_command_line_is_reached_in_any_order(model, database, tmp_path, order):
    from pycaffe_tools.nets.model import open_model
    source, _, times = model
    whole = times.measured[0].seconds * 2301 * 3069 / 2
    result = call(model, database, tmp_path / "out", "--target-time", f"{0.5 * whole}s", *order)
    assert result.exit_code == 0, (result.output, result.exception)
    made = open_model(tmp_path / "out")
    pruning = json.loads((tmp_path / "out" / "pruning.json").read_text())
    seconds = linear(made.net(), "", None, 2) * 2301 * 3069 / 2
    documented = (ROOT / "docs" / "file-formats.md").read_text().split("### `pruning.json`\n")[1].split("\n###")[0]
    assert all(f"`{name}`" in documented for name in pruning["time"])
    assert 0.3 * whole < seconds <= 0.5 * whole * 1.001
    assert pruning["time"]["model"] == pytest.approx(seconds, rel=1e-3) and pruning["time"]["measured"] is None
    for words in (f"{whole:.3g} -> {seconds:.3g} s", f"{whole / seconds:.1f} times faster", "an imagined machine",
                  "multiply-accumulates for a pixel", "2 workers"):
        assert words in result.output
    speedup = call(model, database, tmp_path / "speedup", "--target-speedup", "2", *order)
    assert speedup.exit_code == 0 and open_model(tmp_path / "speedup").counts == made.counts
    larger = call(model, database, tmp_path / "larger", "--target-time", f"{whole}s", "--slice-size", "6138x2301", *order)
    assert larger.exit_code == 0 and open_model(tmp_path / "larger").counts == made.counts
    empty = tmp_path / "orderings"
    never = call(model, database, tmp_path / "never", "--target-time", "1ms", "--cache", str(empty), *order)
    assert not empty.exists(), "it is refused before any ordering"
    assert isinstance(never.exception, UserError) and "--target-time 0.001s: cannot be reached, the fastest" in str(never.exception)
    assert not (tmp_path / "never").exists()


@pytest.mark.caffe
def test_a_drop_that_is_too_large_refuses_the_target(model, database, tmp_path):
    from pycaffe_tools.nets.model import open_model

    from .cases import trained_model
    trained = trained_model(tmp_path / "trained", database)
    options = ("--target-speedup", "8", "--max-accuracy-drop")
    use = (trained, *model[1:])
    assert call(use, database, tmp_path / "a", *options, "100").exit_code == 0
    drop = 100 * (trained.validation_accuracy - open_model(tmp_path / "a").validation_accuracy)
    assert drop > 1
    assert call(use, database, tmp_path / "b", *options, f"{drop + 0.01:.2f}").exit_code == 0
    refused = call(use, database, tmp_path / "c", *options, "0.5")
    assert isinstance(refused.exception, UserError) and not (tmp_path / "c").exists()
    assert f"loses {drop:.2f} points of accuracy before retraining, more than --max-accuracy-drop 0.5" in str(refused.exception)


def test_workers_that_the_file_was_not_measured_with_are_refused(model, database, tmp_path):
    result = call(model, database, tmp_path / "out", "--target-speedup", "2", "--segment-workers", "3")
    assert isinstance(result.exception, UserError) and "was measured with 2 threads at once, not 3" in str(result.exception)
