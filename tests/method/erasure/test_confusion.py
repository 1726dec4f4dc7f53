"""Which concepts filters answer besides their own."""

import torch

from vtcav.method.erasure.confusion import answered, confused
from vtcav.method.erasure.place_filter import Answers


def test_answers_are_relative_to_those_to_their_own_and_weighted_by_layer():
    first = Answers(torch.tensor([[0.8, 0.4], [0.2, 2.0]]), torch.zeros(2))
    second = Answers(torch.tensor([[0.4, -3.0], [0.4, 1.0]]), torch.zeros(2))
    # weights (2 AUC - 1)^2: 1 and 0.25 for the first filter, 1 and 0 for the second
    seen = [torch.tensor([1.0, 1.0]), torch.tensor([0.75, 0.5])]
    own = (0.8 + 0.25 * 0.4) / 1.25
    other = (0.2 + 0.25 * 0.4) / 1.25
    expected = torch.tensor([[1.0, 0.4], [other / own, 1.0]])
    assert torch.allclose(answered([first, second], seen), expected)


def test_what_no_layer_knows_is_not_said():
    seen = [torch.ones(2)]
    assert answered([None], seen) is None
    known = Answers(torch.eye(2), torch.zeros(2))
    assert torch.equal(answered([None, known], [*seen, torch.ones(2)]), torch.eye(2))


def test_a_filter_is_confused_where_it_answers_more_than_the_other_way_round():
    together = torch.tensor([[1.0, 0.24, 0.95], [0.1, 1.0, 0.8], [0.6, 0.6, 1.0]])
    # column 2 answers concept 0 as 0 does 2 times 1.5; concept 1 it does not
    assert confused(together) == [[], [], [0]]
