"""Proves that each of the 37 things that clients stumble over (api.md section 3) has a test that is
named after its number."""

import pathlib
import re

HERE = pathlib.Path(__file__).parent
POINTS = 37


def named_points():
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        for name in re.findall(r"^def (test_point_\w+)\(", path.read_text(), re.M):
            numbers = re.match(r"test_point_(\d+)((?:_and_\d+)*)", name)
            for number in [numbers[1], *re.findall(r"\d+", numbers[2])]:
                found.setdefault(int(number), []).append((path.name, name))
    return found


def test_every_point_has_a_test_of_its_name():
    found = named_points()
    assert [number for number in range(1, POINTS + 1) if number not in found] == []
    assert max(found) == POINTS
    for tests in found.values():
        assert len(set(tests)) == len(tests)
