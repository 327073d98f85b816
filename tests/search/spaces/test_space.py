from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.errors import SearchSpaceError
from frostline.inputs.safe_names import is_printable
from frostline.search.spaces.space import SearchSpace

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
NAMES = st.text(min_size=1).filter(lambda name: "\x00" not in name and name.isprintable())
CHOICES = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), NUMBERS, st.text().filter(is_printable))


@st.composite
def distributions(draw):
    kind = draw(st.sampled_from(["float", "log", "step", "int", "int log", "int step", "choices"]))
    if kind == "choices":
        return CategoricalDistribution(draw(st.lists(CHOICES, min_size=1, unique_by=lambda choice: choice)))
    if kind.startswith("int"):
        low, step = draw(st.integers(1, 1000)), draw(st.integers(2, 9)) if kind == "int step" else 1
        return IntDistribution(low, low + step * draw(st.integers(1, 1000)), log=kind == "int log", step=step)
    if kind == "step":
        low = draw(st.integers(-99, 99)) / 8
        return FloatDistribution(low, low + draw(st.integers(1, 50)) / 8, step=0.125)
    low = draw(st.floats(1e-9, 1e3) if kind == "log" else NUMBERS)
    return FloatDistribution(low, low + draw(st.floats(1e-3, 1e6)), log=kind == "log")


SPACES = st.builds(
    lambda found: SearchSpace(distributions=found), st.dictionaries(NAMES, distributions(), min_size=1, max_size=4)
)


@given(space=SPACES)
def test_a_space_survives_toml_and_pickling(space: SearchSpace) -> None:
    again = SearchSpace.from_toml(space.to_toml())
    assert again == space
    assert hash(again) == hash(space)
    assert list(again.distributions) == list(space.distributions)
    assert pickle.loads(pickle.dumps(space)) == space


@given(space=SPACES, num_points=st.integers(2, 7))
def test_every_point_of_a_grid_is_in_the_space(space: SearchSpace, num_points: int) -> None:
    points = space.grid(num_points)
    for index in range(max(map(len, points.values()))):
        space.validate({name: values[index % len(values)] for name, values in points.items()})
    for name, values in points.items():
        distribution = space.distributions[name]
        if not isinstance(distribution, CategoricalDistribution):
            assert (values[0], values[-1]) == (distribution.low, distribution.high)
            assert list(values) == sorted(set(values))
            assert len(values) <= num_points


def test_toml_is_read() -> None:
    space = SearchSpace.from_toml("""
        [space.learning_rate]
        low = 1e-4
        high = 1e-1
        log = true
        [space.width]
        low = 16
        high = 64
        step = 16
        [space.dropout]
        type = "float"
        low = 0
        high = 1
        [space.optimizer]
        choices = ["adamw", "sgd"]
    """)
    assert space.distributions == {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "width": IntDistribution(16, 64, step=16),
        "dropout": FloatDistribution(0, 1),
        "optimizer": CategoricalDistribution(["adamw", "sgd"]),
    }
    assert str(space).splitlines() == [
        "learning_rate: float from 0.0001 to 0.1, log",
        "width: int from 16 to 64, step 16",
        "dropout: float from 0.0 to 1.0",
        'optimizer: one of ["adamw", "sgd"]',
    ]
    assert space.grid(3) == {
        "learning_rate": (1e-4, pytest.approx(10**-2.5), 1e-1),
        "width": (16, 48, 64),
        "dropout": (0.0, 0.5, 1.0),
        "optimizer": ("adamw", "sgd"),
    }


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 513], ids=len)
def test_a_name_that_no_study_can_hold_is_refused(name: str) -> None:
    with pytest.raises(SearchSpaceError, match="a name must be a line of 1 to 512 characters"):
        SearchSpace(distributions={name: FloatDistribution(0.0, 1.0)})


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        ("low = 2.0\nhigh = 1.0", "x ranges from 2.0 to 1.0, which is reversed: low must be below high"),
        (
            "low = 1\nhigh = 1",
            "x ranges from 1 to 1, which holds a single value: widen the range, or write choices=[1]",
        ),
        (
            "low = 0.0\nhigh = 1.0\nlog = true",
            "log = true and low = 0.0, but a logarithm needs low above 0: raise low",
        ),
        ("low = -1.0\nhigh = 1.0\nlog = true", "a logarithm needs low above 0"),
        ("low = 0\nhigh = 9\nlog = true", "a logarithm needs low at least 1"),
        ("choices = []", "x has no choices, but must have at least one"),
        ('choices = ["a", "b", "a"]', "x has the choice 'a' twice"),
        ("choices = [1, true]", "x has the choice True twice (Python holds 1, 1.0 and true for equal)"),
        (
            "choices = [[1]]",
            "x has the choice [1], but a choice must be a line of text, a finite number, true or false",
        ),
        ("choices = [1.0, inf]", "x has the choice inf"),
        ('choices = ["a", "b\\nc"]', "x has the choice 'b\\nc'"),
        ("choices = [nan]", "x has the choice nan"),
        ("choices = 3", "x has choices 3, but they must be a list"),
        ("choices = [1, 2]\nlow = 3", "x has 'low', but here only choices may stand"),
        ("low = 1.0\nhihg = 2.0", "x has 'hihg', but here only low, high, log, step, type may stand"),
        ("low = 1.0", "x has no high: give low and high, or choices"),
        ("low = nan\nhigh = 1.0", "x has low nan, but it must be a finite number"),
        ("low = 1.0\nhigh = inf", "x has high inf, but it must be a finite number"),
        ("low = true\nhigh = 2.0", "x has low True, but it must be a finite number"),
        ('low = "1"\nhigh = 2.0', "x has low '1', but it must be a finite number"),
        ("low = 1.0\nhigh = 2.0\nlog = 1", "x has log 1, but it must be true or false"),
        ("low = 0.0\nhigh = 1.0\nstep = 0.3", "which steps of 0.3 do not divide: set high to 0.9 or to 1.2"),
        ("low = 0\nhigh = 9\nstep = -3", "x has step -3, but it must be above 0"),
        ("low = 1\nhigh = 9\nstep = 2\nlog = true", "x has both log and step, but may have one of them"),
        ('low = 1\nhigh = 9\ntype = "real"', 'x has type \'real\', but it must be "int" or "float"'),
        (
            'low = 1.5\nhigh = 9.5\ntype = "int"',
            'x has type "int" and low = 1.5, high = 9.5, but these must be whole',
        ),
    ],
)
def test_what_is_no_dimension_is_refused_in_one_line(dimension: str, words: str) -> None:
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace.from_toml(f"[space.x]\n{dimension}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[space", "the search space is not TOML:"),
        ("", "has no table `space`: declare each hyperparameter in a table of its own"),
        ("space = 3", "has no table `space`"),
        ("[space]", "the search space is empty, but it must hold at least one hyperparameter"),
        ("[space]\nx = 3", "x is 3, but must be a table of low and high, or of choices"),
    ],
)
def test_a_text_without_a_space_is_refused(text: str, words: str) -> None:
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace.from_toml(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spaces_declared_in_python_are_checked_too() -> None:
    with pytest.raises(SearchSpaceError, match="is empty"):
        SearchSpace(distributions={})
    with pytest.raises(SearchSpaceError, match=r"x is 3, but must be one of Optuna's FloatDistribution"):
        SearchSpace(distributions={"x": 3})
    with pytest.raises(SearchSpaceError, match="holds a single value"):
        SearchSpace(distributions={"x": FloatDistribution(1, 1)})
    with pytest.raises(SearchSpaceError, match="both ends must be finite"):
        SearchSpace(distributions={"x": FloatDistribution(1, float("inf"))})
    with pytest.raises(SearchSpaceError, match="the choice 1 twice"):
        SearchSpace(distributions={"x": CategoricalDistribution([1, 2, 1])})
    with pytest.raises(SearchSpaceError, match="None, for which TOML has no word"):
        SearchSpace(distributions={"x": CategoricalDistribution([None, 2])}).to_toml()


def test_a_space_cannot_be_changed() -> None:
    given_distributions = {"x": FloatDistribution(0, 1)}
    space = SearchSpace(distributions=given_distributions)
    with pytest.raises(TypeError, match="does not support item assignment"):
        space.distributions["x"] = FloatDistribution(0, 2)
    given_distributions["y"] = FloatDistribution(0, 1)
    assert list(space.distributions) == ["x"]


def test_the_fingerprint_ignores_order_and_nothing_else() -> None:
    one, two = FloatDistribution(0, 1), IntDistribution(1, 3)
    space = SearchSpace(distributions={"a": one, "b": two})
    assert space.fingerprint == SearchSpace(distributions={"b": two, "a": one}).fingerprint
    others = [
        {"a": one},
        {"a": one, "c": two},
        {"a": FloatDistribution(0, 1, step=0.5), "b": two},
        {"a": FloatDistribution(0, 1.0000000001), "b": two},
        {"a": IntDistribution(0, 1), "b": two},
        {"a": one, "b": IntDistribution(1, 3, log=True)},
        {"a": one, "b": CategoricalDistribution([1, 2, 3])},
    ]
    assert len({space.fingerprint, *(SearchSpace(distributions=other).fingerprint for other in others)}) == 8


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"x": 0.5, "n": 3}, "'c' has no value; give one to each of x, n, c"),
        ({"x": 0.5, "n": 3, "c": 1, "y": 1}, "the search space has no 'y'; it has x, n, c"),
        ({"x": 1.5, "n": 3, "c": 1}, "x is 1.5, but the search space allows float from 0.0 to 1.0, step 0.25"),
        ({"x": 0.3, "n": 3, "c": 1}, "x is 0.3"),
        ({"x": float("nan"), "n": 3, "c": 1}, "x is nan"),
        ({"x": True, "n": 3, "c": 1}, "x is True"),
        ({"x": 0.5, "n": 3.0, "c": 1}, "n is 3.0, but the search space allows int from 1 to 5, step 2"),
        ({"x": 0.5, "n": 2, "c": 1}, "n is 2"),
        ({"x": 0.5, "n": "3", "c": 1}, "n is '3'"),
        ({"x": 0.5, "n": 3, "c": True}, 'c is True, but the search space allows one of [1, "1"]'),
        ({"x": 0.5, "n": 3, "c": 1.0}, "c is 1.0"),
    ],
)
def test_values_outside_the_space_are_refused(values, words: str) -> None:
    space = SearchSpace(
        distributions={
            "x": FloatDistribution(0, 1, step=0.25),
            "n": IntDistribution(1, 5, step=2),
            "c": CategoricalDistribution([1, "1"]),
        }
    )
    space.validate({"x": 0.75, "n": 5, "c": "1"})
    space.validate({"x": 1, "n": 1, "c": 1})
    with pytest.raises(SearchSpaceError) as caught:
        space.validate(values)
    assert words in str(caught.value)


def test_a_grid_needs_both_ends() -> None:
    with pytest.raises(
        SearchSpaceError, match="num_points is 1, but a grid has at least the 2 ends of each range"
    ):
        SearchSpace(distributions={"x": FloatDistribution(0, 1)}).grid(1)
