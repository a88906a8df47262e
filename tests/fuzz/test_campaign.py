"""A short, seeded part of the campaign; ``make fuzz`` is the long one."""

import pytest

pytest.importorskip("caffe")

from . import campaign, corpus, kills


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    corpus.build(folder)
    return folder


def test_every_case_runs_undamaged(base, tmp_path):
    for number, case in enumerate(corpus.CASES):
        place = tmp_path / str(number)
        corpus.copy(base, place)
        code, said, _ = campaign.run_case(case, place)
        assert code == 0, (case.argv, said)
        assert all((place / name).exists() for name in case.outputs), case.argv


def test_damaged_inputs_end_well(base):
    results = campaign.run_inputs(base, 2 * len(corpus.CASES), seed=3, report=False)
    bad = [(result.outcome, result.case.argv, result.target, result.how, result.said) for result in results
           if result.outcome not in campaign.GOOD]
    assert not bad
    assert {result.outcome for result in results} == set(campaign.GOOD), "damage that nobody notices, or that everybody refuses"


def test_killed_commands_end_with_the_same_result(base):
    found = kills.run_kills(base, len(kills.LONG), seed=3)
    assert [kill for kill in found if not kill.same] == []
