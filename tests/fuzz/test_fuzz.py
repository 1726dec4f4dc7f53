"""A few tries of every kind; `make fuzz` makes ten thousand of each."""

from importlib.util import find_spec

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.trial import REFUSED, RIGHT, outcome, trial_of

_TRIES = 20


@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_a_right_answer_or_a_refusal_by_name(name, tmp_path):
    if missing := [module for module in KINDS[name].needs if find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    kind = KINDS[name](tmp_path)
    for number in range(max(2, round(_TRIES * kind.share))):
        trial = trial_of(kind, 0, number)
        found = outcome(trial)
        assert found in (RIGHT, REFUSED), f"--kinds {name} --only {number}: {found} [{trial.what}]"
