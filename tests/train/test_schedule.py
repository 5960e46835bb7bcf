"""Learning rates in steps and by a power, against what the papers' tables say."""

import pytest

from train.optim.schedule import lr_multiplier
from train.recipe import Schedule
from train.run import Progress, RunLength


def test_steps_multiply_the_rate_at_their_milestones():
    """DeepDeblur: halved at epochs 500, 750 and 900 of 1000."""
    schedule = Schedule(shape="step", milestones=(0.5, 0.75, 0.9), gamma=0.5)
    factors = {epoch: lr_multiplier(schedule, epoch / 1000, 0) for epoch in (0, 499, 500, 749, 750, 899, 900, 1000)}
    assert factors == {0: 1, 499: 1, 500: 0.5, 749: 0.5, 750: 0.25, 899: 0.25, 900: 0.125, 1000: 0.125}


@pytest.mark.parametrize("steps", [10, 30, 70, 1000])
def test_a_milestone_falls_on_its_step_whatever_the_rounding(steps):
    for number in range(1, 10):
        schedule = Schedule(shape="step", milestones=(number / 10,), gamma=0.1)
        at = steps * number // 10
        assert [lr_multiplier(schedule, step / steps, 0) for step in (at - 1, at)] == [1, 0.1]


def test_a_power_of_what_is_left_is_srns_polynomial_decay():
    schedule = Schedule(shape="polynomial", power=0.3)
    assert [lr_multiplier(schedule, share, 0) for share in (0.0, 0.5, 0.9, 1.0)] == pytest.approx(
        [1, 0.5**0.3, 0.1**0.3, 0]
    )
    assert lr_multiplier(Schedule(shape="polynomial", power=1.0, final=0.2), 0.5, 0) == pytest.approx(0.6)
    assert lr_multiplier(Schedule(shape="polynomial", power=0.3, warmup=4), 0.5, 1) == pytest.approx(0.5**1.3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("schedule.milestones=[0.9,0.5]", "schedule.milestones must be rising shares of the run, between 0 and 1"),
        ("schedule.milestones=[500]", "schedule.milestones must be rising shares of the run, between 0 and 1"),
        ("schedule.shape=step", "schedule.shape 'step' needs schedule.milestones"),
        ("keep=0", "keep must be at least 1"),
        ("alarms.most_skipped=0", "alarms.most_skipped must be at least 1"),
        ("optimizer.accumulate=0", "optimizer.accumulate must be at least 1"),
    ],
)
def test_what_does_not_make_a_schedule_is_refused(start, change, words):
    code, said = start("compact", change)
    assert code == 2 and words in said


def test_a_run_ends_by_steps_or_by_time_and_its_schedule_stretches_if_wanted():
    half = Progress(step=50, seconds=30.0)
    by_steps = RunLength(100, 0.0, stretch=True)
    assert (by_steps.fraction(half), by_steps.schedule_fraction(half)) == (0.5, 0.5)
    stretched = RunLength(0, 40.0, stretch=True)
    assert (stretched.fraction(half), stretched.schedule_fraction(half)) == (0.75, 0.75)
    kept = RunLength(100, 40.0, stretch=False)
    assert (kept.fraction(half), kept.schedule_fraction(half)) == (0.75, 0.5)
    assert kept.fraction(Progress(step=100, seconds=1.0)) == 1
