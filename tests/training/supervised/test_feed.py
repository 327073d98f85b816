from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from frostline.errors import TaskError
from frostline.training.supervised import feed
from frostline.training.supervised.feed import Feed


class Noisy(Dataset[tuple[Tensor, int]]):
    """Draws from every global generator, as transforms of images do, and says in which process."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002 (as users do)
        return torch.tensor([index, *drawn], dtype=torch.float64), os.getpid()


class Words(Dataset[list[int]]):
    """Examples of different lengths."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> list[int]:
        return [index] * (1 + index % 3)


def padded(words: list[list[int]]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(word) for word in words]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1), torch.tensor(
        [word[0] for word in words]
    )


def with_noise(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + torch.rand(inputs.shape, generator=generator) + torch.rand(inputs.shape)


NOISY = Feed(dataset=Noisy(), augment=with_noise)


def drawn(feed: Feed, *, batches: int, skip: int = 0, seed: int = 0) -> list[list[Any]]:
    stream = feed.shuffled(batch_size=4, seed=seed, skip_examples=skip)
    return [inputs.tolist() for inputs, _ in islice(stream, batches)]


def test_what_data_draw_depends_on_the_seed_and_the_place_alone() -> None:
    whole = drawn(NOISY, batches=8)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert drawn(NOISY, batches=3, skip=5 * 4) == whole[5:]
    assert drawn(NOISY, batches=8) == whole
    assert drawn(NOISY, batches=8, seed=1) != whole
    # The same examples in another epoch are drawn anew.
    first, second = (sorted(row for batch in whole[start : start + 3] for row in batch) for start in (0, 3))
    assert first != second


def test_the_generators_of_others_go_on_as_if_nothing_had_been_drawn() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    drawn(NOISY, batches=2)
    assert (torch.rand(()).item(), random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_ordered_batches_draw_the_same_each_time() -> None:
    first, second = ([inputs.tolist() for inputs, _ in NOISY.ordered(batch_size=5)] for _ in range(2))
    assert first == second
    assert [len(batch) for batch in first] == [5, 5, 2]


def test_a_function_of_ones_own_puts_examples_together() -> None:
    inputs, targets = next(Feed(dataset=Words(), collate_fn=padded).ordered(batch_size=3))
    assert inputs.tolist() == [[0, -1, -1], [1, 1, -1], [2, 2, 2]]
    assert targets.tolist() == [0, 1, 2]


def test_batches_that_are_no_pairs_are_refused() -> None:
    batches = Feed(dataset=Words(), collate_fn=len).ordered(batch_size=3)
    with pytest.raises(
        TaskError, match=r"^collate_fn gives a int, but a batch must be a pair \(inputs, targets\)"
    ):
        next(batches)


def test_rows_in_memory_are_put_together_by_that_function_too() -> None:
    rows = TensorDataset(torch.arange(4), torch.arange(4))
    counted = Feed(dataset=rows, collate_fn=lambda examples: (torch.tensor(len(examples)), 0))
    assert next(counted.ordered(batch_size=3))[0] == 3


@pytest.mark.multiprocess
class TestProcesses:
    """Started at once where no test says otherwise."""

    @pytest.fixture(autouse=True)
    def start_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "_WORTH_STARTING", 0.0)

    @pytest.fixture(autouse=True)
    def leave_none_behind(self) -> Iterator[None]:
        yield
        assert multiprocessing.active_children() == []

    def test_who_fetches_changes_nothing(self) -> None:
        ahead = Feed(dataset=Noisy(), augment=with_noise, num_workers=2)
        assert drawn(ahead, batches=7, skip=8) == drawn(NOISY, batches=7, skip=8)
        ordered = [[inputs.tolist() for inputs, _ in each.ordered(batch_size=5)] for each in (ahead, NOISY)]
        assert ordered[0] == ordered[1]

    def test_they_fetch_all_but_the_first_batch(self) -> None:
        batches = Feed(dataset=Noisy(), num_workers=2).shuffled(batch_size=4, seed=0)
        fetched_by = [{*next(batches)[1].tolist()} for _ in range(5)]
        here, *others = fetched_by
        assert here == {os.getpid()}
        assert len(set[int]().union(*others)) == 2
        assert os.getpid() not in set[int]().union(*others)
        batches.close()  # type: ignore[attr-defined]  # a generator

    @pytest.mark.parametrize("num_examples", [1, 4])
    def test_a_single_batch_starts_none(self, num_examples: int) -> None:
        rows = TensorDataset(torch.arange(num_examples), torch.arange(num_examples))
        batches = Feed(dataset=rows, num_workers=2).ordered(batch_size=4)
        assert len([inputs for inputs, _ in batches]) == 1
        assert multiprocessing.active_children() == []

    def test_data_that_are_there_at_once_start_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "_WORTH_STARTING", 60.0)
        here = drawn(Feed(dataset=Noisy(), augment=with_noise, num_workers=2), batches=8)
        assert multiprocessing.active_children() == []
        assert here == drawn(NOISY, batches=8)

    def test_what_takes_long_starts_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "_WORTH_STARTING", 0.02)

        class Slow(Noisy):
            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                time.sleep(0.004)
                return super().__getitem__(index)

        # Three batches of two examples take more than that, whatever else the machine does.
        fetched_by = [
            {*by.tolist()} for _, by in islice(Feed(dataset=Slow(), num_workers=1).ordered(batch_size=2), 6)
        ]
        assert os.getpid() not in fetched_by[-1]

    def test_looking_at_the_first_batch_starts_none(self) -> None:
        batches = Feed(dataset=Noisy(), num_workers=2).shuffled(batch_size=4, seed=0)
        next(batches)
        assert multiprocessing.active_children() == []

    def test_what_an_example_raises_there_is_raised_here(self) -> None:
        class Damaged(Noisy):
            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                if index == 9:
                    raise OSError("image 9 is damaged")
                return super().__getitem__(index)

        with pytest.raises(OSError, match="image 9 is damaged"):
            [*Feed(dataset=Damaged(), num_workers=1).ordered(batch_size=4)]

    def test_one_that_is_killed_is_an_error(self) -> None:
        class Deadly(Noisy):
            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                if index == 9:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__getitem__(index)

        with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed by signal|exited unexpectedly)"):
            [*Feed(dataset=Deadly(), num_workers=1).ordered(batch_size=4)]


@pytest.mark.multiprocess
def test_data_that_cannot_be_sent_to_another_process_are_refused_in_one_line() -> None:
    script = """
        import torch
        from torch.utils.data import TensorDataset
        from frostline.training.supervised import feed

        feed._START_METHOD, feed._WORTH_STARTING = "spawn", 0.0
        rows = TensorDataset(torch.arange(9), torch.arange(9))
        batches = feed.Feed(dataset=rows, augment=lambda inputs, generator: inputs, num_workers=1)
        if __name__ == "__main__":
            [*batches.ordered(batch_size=4)]
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    [last] = done.stderr.strip().splitlines()[-1:]
    assert "TaskError: num_workers is 1, but the data cannot be sent to another process" in last
