"""The sentence that says which map to believe, or that there is no telling."""

import pytest
import torch

from cutaway.inspect.faithfulness import REFERENCE_MAPS, MethodComparison, which_to_believe

NOISE = torch.tensor([0.01, -0.01, 0.02, -0.02, 0.0, 0.015, -0.015, 0.0], dtype=torch.float64)


def compared(means, count=8, metrics=("insertion",)):
    """Methods by their means of each metric, beside reference maps at 0.5 and a centre at 0.6."""
    own = {name: [value] * len(metrics) if isinstance(value, float) else value for name, value in means.items()}
    known = own | {name: [0.6 if name == "centre" else 0.5] * len(metrics) for name in REFERENCE_MAPS}
    noise = [NOISE[:count].roll(number) for number in range(len(known))]
    values = torch.stack([torch.stack([v + noise[i] for v in row]) for i, row in enumerate(known.values())])
    return MethodComparison(
        tuple(known), metrics, values, tuple(REFERENCE_MAPS), {}, torch.zeros(count, dtype=torch.int64)
    )


def test_one_that_is_better_is_named_with_the_number_of_pictures():
    found = which_to_believe(compared({"good": 0.9, "bad": 0.5}))
    assert (found.believed, found.first, found.judges) == (("good",), None, ("insertion",))
    assert found.sentence.startswith("Believe good: by insertion AUC")
    assert "8 pictures" in found.sentence


def test_among_several_the_first_is_named_where_it_is_told():
    found = which_to_believe(compared({"good": 0.9, "better": 0.95, "bad": 0.5}))
    assert (found.believed, found.first) == (("good", "better"), "better")
    assert found.sentence.endswith("better is ahead of the others.")
    found = which_to_believe(compared({"good": 0.9, "alike": 0.902}))
    assert (found.believed, found.first) == (("good", "alike"), None)
    assert found.sentence.endswith("cannot be told.")


@pytest.mark.parametrize("count", [1, 4])
def test_of_few_pictures_it_cannot_tell(count):
    found = which_to_believe(compared({"good": 5.0}, count))
    assert found.believed == ()
    assert found.sentence.startswith(f"Cannot tell which to believe: of {count} picture{'s' * (count > 1)} chance")


def test_what_is_within_chance_or_no_better_than_the_centre_is_not_believed():
    for mean in (0.505, 0.59):
        found = which_to_believe(compared({"own": mean}))
        assert found.believed == ()
        assert "no method is better than the maps that know nothing" in found.sentence


def test_all_judges_have_to_agree_and_the_others_are_no_judges():
    found = which_to_believe(compared({"own": [0.9, 0.9]}, metrics=("insertion", "deletion")))
    assert found.judges == ("deletion", "insertion")
    assert found.believed == ()
    assert found.sentence.endswith("(own by some, not by all).")
    found = which_to_believe(compared({"own": [0.9, 0.1]}, metrics=("insertion", "deletion")))
    assert found.believed == ("own",)
    found = which_to_believe(compared({"own": [0.9, 0.9]}, metrics=("insertion", "drop")))
    assert found.judges == ("insertion",)
    assert found.believed == ("own",)
    found = which_to_believe(compared({"own": 0.9}, metrics=("increase",)))
    assert found.sentence == ("Cannot tell which to believe: neither deletion AUC, insertion AUC or ROAD was measured.")
