"""Placebos and ways to fill, shared out among the images of a class."""

import pytest

from vtcav.explainer.erasing.allotment import Allotment


def taken(allotment, shows):
    """Return the placebos and ways to fill of each image, which shows the concept or does not."""
    found = []
    for shown in shows:
        allotment.next_image()
        found.append((allotment.placebos("a"), allotment.all_fills("a")) if shown else None)
    return found


def test_one_image_gets_everything():
    assert taken(Allotment(20), [True]) == [(range(20), True)]


@pytest.mark.parametrize("images", [1, 3, 20, 50, 333])
def test_the_budget_is_spent_evenly(images):
    found = taken(Allotment(20, images), [True] * images)
    numbers = [number for numbers, _ in found for number in numbers]
    assert numbers == list(range(20))
    counts = [len(numbers) for numbers, _ in found]
    assert max(counts) - min(counts) <= 1
    assert sum(every for _, every in found) == min(10, images)


def test_images_that_alternate_between_two_kinds_share_alike():
    found = taken(Allotment(20, 40), [True] * 40)
    placebos = [bool(numbers) for numbers, _ in found]
    fills = [every for _, every in found]
    for given, total in ((placebos, 20), (fills, 10)):
        assert sum(given) == total
        assert total / 4 <= sum(given[::2]) <= 3 * total / 4


def test_the_few_images_that_show_a_concept_get_more():
    found = taken(Allotment(20, 40), [position % 10 == 9 for position in range(40)])
    assert [len(each[0]) for each in found if each] == [5, 5, 5, 5]


def test_parts_together_get_what_the_class_has():
    parts = [Allotment.of_part(20, size, 150) for size in (72, 72, 6)]
    sizes = [
        sum(len(n) for n, _ in taken(part, [True] * s))
        for part, s in zip(parts, (72, 72, 6), strict=True)
    ]
    assert sizes == [10, 10, 1]


def test_without_placebos_none_are_due():
    assert taken(Allotment(0, 2), [True, True]) == [(range(0), True), (range(0), True)]
