from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from frostline.populations.prefix.example_keys import ExampleKeys
from frostline.populations.prefix.prefix_cache import PrefixCache

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.int64,
    torch.int16,
    torch.uint8,
    torch.bool,
    torch.complex64,
]
SHAPES = [(), (1,), (3,), (5, 2), (2, 3, 4)]
MiB = 1024**2

Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Inputs:
    tokens: Tensor
    scale: float = 1.0


def example(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if dtype.is_complex:
        return torch.randn(*shape, 2, generator=generator).view(*shape, 2).clone().view(dtype).reshape(shape)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 200, shape, generator=generator).to(dtype)


def rows_of(num_rows: int, *, seed: int = 0) -> list[Tensor]:
    """Rows of three outputs of different types and shapes."""
    return [
        example(torch.float32, (num_rows, 3, 2), seed),
        example(torch.bfloat16, (num_rows, 5), seed + 1),
        example(torch.int64, (num_rows,), seed + 2),
    ]


def names(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


# Keys


@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from(SHAPES),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    transposed=st.booleans(),
    offset=st.integers(0, 3),
)
def test_equal_content_has_equal_keys_in_any_batch_and_memory(
    dtype: torch.dtype, shape: tuple[int, ...], order: list[int], transposed: bool, offset: int
) -> None:
    keys = ExampleKeys()
    images, numbers = example(dtype, (6, *shape)), torch.arange(6)
    known = keys.of((images, {"numbers": numbers}))
    assert known is not None
    assert len(set(known)) == 6
    assert all(len(key) == 16 for key in known)
    # Somewhere else in memory, which is not aligned for words, and with the rows not next to each other.
    moved = torch.cat([torch.zeros(offset, *shape, dtype=dtype), images])[offset:][order]
    if transposed and moved.dim() > 1:
        moved = moved.transpose(0, -1).contiguous().transpose(0, -1)
    assert keys.of((moved, {"numbers": numbers[order]})) == [known[place] for place in order]
    assert ExampleKeys().of((images, {"numbers": numbers})) == known


@given(dtype=st.sampled_from(DTYPES), shape=st.sampled_from(SHAPES), data=st.data())
def test_one_changed_bit_changes_that_examples_key(
    dtype: torch.dtype, shape: tuple[int, ...], data: st.DataObject
) -> None:
    keys, tensor = ExampleKeys(), example(dtype, (4, *shape))
    before = keys.of([tensor])
    content = tensor.view(-1).view(torch.uint8)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 if dtype is torch.bool else 1 << data.draw(st.integers(0, 7))
    after = keys.of([tensor])
    assert before is not None
    assert after is not None
    changed = [number for number in range(4) if before[number] != after[number]]
    assert changed == [place // (len(content) // 4)]


def test_every_single_bit_makes_another_key_in_both_halves() -> None:
    bits = torch.eye(96 * 32, dtype=torch.bool)
    words = (bits.view(-1, 96, 32).long() << torch.arange(32)).sum(-1).to(torch.int32)
    keys = ExampleKeys().of(words)
    assert keys is not None
    assert len({key[:8] for key in keys}) == len({key[8:] for key in keys}) == len(keys) == 3072


def test_the_order_in_a_row_and_among_tensors_matters() -> None:
    keys, tensor = ExampleKeys(), torch.arange(12.0).view(2, 6)
    other = torch.ones(2, 6)
    swapped = tensor[:, [1, 0, 2, 3, 4, 5]]
    batches: list[Any] = [tensor, swapped, tensor.flip(1), (tensor, other), (other, tensor), tensor.view(2, 2, 3)]
    batches += [tensor.to(torch.float64), tensor.view(torch.int32), (tensor, other[:, :3], other[:, 3:])]
    found = [keys.of(batch) for batch in batches]
    assert len({key for each in found for key in each or ()}) == 2 * len(batches)


def test_zeros_of_any_length_differ() -> None:
    # All sums are 0 here: shapes and types alone tell them apart, and the bytes that fill up a word.
    keys = ExampleKeys()
    found = [
        keys.of(torch.zeros(1, width, dtype=dtype)) for width in range(9) for dtype in (torch.uint8, torch.int32)
    ]
    assert len({key for each in found for key in each or ()}) == 18


@pytest.mark.parametrize(
    "other",
    [
        {"x": "tensor", "n": 2},
        {"x": "tensor", "n": 1.0},
        {"x": "tensor", "n": True},
        {"x": "tensor", "n": "1"},
        {"x": "tensor", "n": None},
        {"x": "tensor", "m": 1},
        {"n": 1, "x": "tensor"},
        OrderedDict(x="tensor", n=1),
        ["tensor", 1],
        ("tensor", 1),
        Pair("tensor", 1),
        Inputs("tensor", 1),  # type: ignore[arg-type]
        {"x": ("tensor",), "n": 1},
        "tensor",
    ],
    ids=str,
)
def test_everything_around_the_tensors_counts(other: Any) -> None:
    def filled(value: Any) -> Any:
        if value == "tensor":
            return torch.ones(2, 3)
        if isinstance(value, dict):
            return type(value)((name, filled(each)) for name, each in value.items())
        if isinstance(value, Inputs):
            return Inputs(torch.ones(2, 3), value.scale)
        if isinstance(value, tuple | list):
            parts = [filled(each) for each in value]
            return Pair(*parts) if isinstance(value, Pair) else type(value)(parts)
        return value

    keys = ExampleKeys()
    plain, changed = keys.of(filled({"x": "tensor", "n": 1})), keys.of(filled(other))
    assert plain is not None
    assert changed is not None
    assert plain[0] == plain[1]
    assert plain[0] != changed[0]
    assert changed == keys.of(filled(other))


def test_batches_of_transformers_have_keys() -> None:
    transformers = pytest.importorskip("transformers")
    tokens = torch.arange(8).view(2, 4)
    keys = ExampleKeys()
    found = keys.of(transformers.BatchEncoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}))
    assert found is not None
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    "batch",
    [
        (torch.ones(3, 2), torch.ones(2)),
        torch.tensor(1.0),
        (torch.ones(3), torch.tensor(1.0)),
        {"text": "no tensor"},
        (torch.ones(2), np.ones(2)),  # its text leaves out the middle of long ones
        (torch.ones(2), object()),
        {"x": torch.ones(2), object(): 1},
        torch.ones(2, 2, device="meta"),
        torch.ones(2, 2).to_sparse(),
    ],
    ids=["lengths", "scalar", "a-scalar", "text", "array", "object", "name", "meta", "sparse"],
)
def test_what_cannot_be_named_has_no_keys(batch: Any) -> None:
    assert ExampleKeys().of(batch) is None


def test_large_and_empty_examples_have_keys_that_stay() -> None:
    keys = ExampleKeys()
    small = torch.arange(6.0).view(2, 3)
    before = keys.of(small)
    large = torch.zeros(2, 70_000)
    large[1, -1] = 1
    found = keys.of(large)
    assert found is not None
    assert found[0] != found[1]
    assert keys.of(small) == before
    assert keys.of(torch.zeros(0, 3)) == []
    empty = keys.of(torch.zeros(2, 0))
    assert empty is not None
    assert empty[0] == empty[1]


def test_keys_leave_gradients_and_generators_alone() -> None:
    before = torch.get_rng_state()
    tensor = torch.ones(2, 3, requires_grad=True)
    assert ExampleKeys().of(tensor) == ExampleKeys().of(torch.ones(2, 3))
    assert torch.equal(torch.get_rng_state(), before)


# Rows

Make = Callable[..., PrefixCache]


@pytest.fixture(params=["memory", "disk", "disk without reserving"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes caches in memory, in a file, and in one on a system that cannot reserve disk space."""
    if request.param == "disk without reserving":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    directory = None if request.param == "memory" else tmp_path

    def cache(limit_bytes: int = 8 * MiB, chunk_bytes: int = MiB) -> PrefixCache:
        return PrefixCache(limit_bytes=limit_bytes, directory=directory, chunk_bytes=chunk_bytes)

    return cache


@pytest.mark.parametrize("chunk_bytes", [1, 1000, MiB])
def test_the_cache_does_as_a_dictionary_of_rows(make: Make, chunk_bytes: int) -> None:
    cache, twin, hits, misses = make(limit_bytes=100_000, chunk_bytes=chunk_bytes), {}, 0, 0
    everything = rows_of(60)
    generator = torch.Generator().manual_seed(chunk_bytes)
    for size in [1, 7, 16, 3, 60, 5] * 5:
        numbers = torch.randint(0, 60, (size,), generator=generator).tolist()
        if size == 7:
            numbers = sorted(numbers)
        keys = names(*numbers)
        missing = cache.missing(keys)
        assert missing == [place for place, key in enumerate(keys) if key not in twin]
        misses += len(missing)
        hits += size - len(missing)
        new = [numbers[place] for place in missing]
        assert cache.insert(names(*new), [each[new] for each in everything])
        for number in new:
            twin[names(number)[0]] = [each[number] for each in everything]
        expected = [torch.stack(column) for column in zip(*(twin[key] for key in keys), strict=True)]
        assert same(cache.fetch(keys), expected)
    assert (cache.hits, cache.misses, len(cache)) == (hits, misses, len(twin))


def test_rows_that_lie_together_are_not_copied(make: Make) -> None:
    cache, rows = make(), rows_of(8)
    assert cache.insert(names(*range(8)), rows)
    whole, part = cache.fetch(names(*range(8))), cache.fetch(names(3, 4, 5))
    for one, other in zip(whole, part, strict=True):
        assert other.data_ptr() == one[3].data_ptr()
    assert same(part, [each[3:6] for each in rows])
    assert cache.fetch(names(4, 3))[0].untyped_storage().data_ptr() != whole[0].untyped_storage().data_ptr()


def test_rows_lie_in_memory_as_they_were_given(make: Make) -> None:
    # What is trained behind them sums up in that order.
    images = torch.arange(4 * 3 * 5 * 7.0).view(4, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    rows = [images, torch.arange(24.0).view(4, 2, 3), torch.arange(24.0).view(4, 3, 2).transpose(1, 2)]
    cache = make()
    cache.insert(names(0, 1, 2, 3), rows)
    for numbers in ([0, 1, 2, 3], [1, 2]):
        found = cache.fetch(names(*numbers))
        assert same(found, [tensor[numbers] for tensor in rows])
        assert [each.stride() for each in found] == [tensor.stride() for tensor in rows]


def test_inserts_change_neither_views_nor_their_versions(make: Make) -> None:
    cache, rows = make(), rows_of(6)
    cache.insert(names(0, 1, 2), [each[:3] for each in rows])
    view = cache.fetch(names(0, 1, 2))[0]
    weight = torch.ones(2, requires_grad=True)
    loss = (view @ weight).sum()
    version, content = view._version, view.clone()
    cache.insert(names(3, 4, 5), [each[3:] for each in rows])
    assert view._version == version
    assert torch.equal(view, content)
    loss.backward()
    torch.testing.assert_close(weight.grad, content.sum((0, 1)))


def test_rows_kept_in_inference_mode_can_be_trained_behind(make: Make) -> None:
    cache = make()
    with torch.inference_mode():
        cache.insert(names(0, 1), rows_of(2))
    weight = torch.ones(2, requires_grad=True)
    (cache.fetch(names(0, 1))[0] @ weight).sum().backward()
    assert weight.grad is not None


def test_the_source_may_be_changed_afterwards_and_may_have_gradients(make: Make) -> None:
    cache, source = make(), torch.ones(2, 3, requires_grad=True)
    cache.insert(names(0, 1), [source])
    with torch.no_grad():
        source.zero_()
    kept = cache.fetch(names(0, 1))[0]
    assert torch.equal(kept, torch.ones(2, 3))
    assert not kept.requires_grad


def test_rows_come_from_any_device(make: Make, device: torch.device) -> None:
    cache, rows = make(), rows_of(4)
    assert cache.insert(names(0, 1, 2, 3), [each.to(device) for each in rows])
    kept = cache.fetch(names(0, 1, 2, 3))
    assert all(each.device.type == "cpu" for each in kept)
    assert same(kept, rows)


def test_equal_keys_in_one_batch_are_kept_once(make: Make) -> None:
    cache, rows = make(), rows_of(2)
    doubled = [each[[0, 1, 0, 0]] for each in rows]
    assert cache.missing(names(0, 1, 0, 0)) == [0, 1, 2, 3]
    assert cache.insert(names(0, 1, 0, 0), doubled)
    assert len(cache) == 2
    assert same(cache.fetch(names(0, 1, 0, 0)), doubled)
    # What is held stays: a second computation may round otherwise.
    assert cache.insert(names(0), [each[1:] for each in rows])
    assert same(cache.fetch(names(0)), [each[:1] for each in rows])


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:2],
        lambda rows: [*rows, rows[0]],
        lambda rows: [rows[0].double(), *rows[1:]],
        lambda rows: [rows[0].transpose(1, 2), *rows[1:]],
        lambda rows: [rows[0][:1], *rows[1:]],
        lambda rows: [rows[1], rows[0], rows[2]],
        lambda rows: [torch.tensor(1.0), *rows[1:]],
    ],
    ids=["fewer", "more", "type", "shape", "length", "order", "scalar"],
)
def test_another_layout_is_refused(make: Make, change: Callable[[list[Tensor]], list[Tensor]]) -> None:
    cache, rows = make(), rows_of(2)
    assert cache.insert(names(0, 1), rows)
    assert not cache.insert(names(2, 3), change(rows_of(2, seed=9)))
    assert cache.missing(names(0, 1, 2, 3)) == [2, 3]
    assert same(cache.fetch(names(0, 1)), rows)
    cache.clear()
    assert cache.insert(names(5, 6), [torch.ones(2, 7)])


@pytest.mark.parametrize("chunk_bytes", [1, 5_000, MiB])
def test_at_the_limit_it_keeps_what_it_has(make: Make, chunk_bytes: int) -> None:
    limit = 20_000
    cache, rows = make(limit_bytes=limit, chunk_bytes=chunk_bytes), [torch.randn(50, 200)]
    assert not cache.insert(names(*range(50)), rows)
    # 800 bytes a row, and its key.
    assert 18 <= len(cache) <= 25
    assert len(cache) * 800 < cache.num_bytes <= limit
    assert cache.missing(names(*range(50))) == list(range(len(cache), 50))
    held = list(range(len(cache)))[::-1]
    assert same(cache.fetch(names(*held)), [rows[0][held]])
    before = cache.num_bytes
    assert not cache.insert(names(70), [rows[0][:1]])
    assert cache.insert(names(0), [rows[0][:1]])
    assert cache.num_bytes == before


def test_nothing_fits_below_the_size_of_a_row(make: Make) -> None:
    cache = make(limit_bytes=100)
    assert not cache.insert(names(0), [torch.ones(1, 100)])
    assert (len(cache), cache.num_bytes) == (0, 0)
    assert cache.missing(names(0)) == [0]


def test_rows_may_be_empty(make: Make) -> None:
    cache = make()
    assert cache.insert(names(0, 1), [torch.ones(2, 0), torch.arange(2)])
    assert cache.fetch(names(1, 0))[1].tolist() == [1, 0]
    assert cache.fetch(names(1, 0))[0].shape == (2, 0)


def test_clear_forgets_but_leaves_what_was_handed_out(make: Make) -> None:
    cache, rows = make(), rows_of(3)
    cache.insert(names(0, 1, 2), rows)
    handed_out = cache.fetch(names(0, 1, 2))
    cache.clear()
    assert (len(cache), cache.num_bytes) == (0, 0)
    assert cache.missing(names(0)) == [0]
    with pytest.raises((KeyError, AssertionError)):
        cache.fetch(names(0))
    assert cache.insert(names(0, 1, 2), rows_of(3, seed=5))
    assert same(handed_out, rows)


def test_what_is_not_held_is_not_fetched(make: Make) -> None:
    cache = make()
    cache.insert(names(0), rows_of(1))
    with pytest.raises(KeyError):
        cache.fetch(names(0, 1))


def test_without_memory_it_stops_growing(caplog: pytest.LogCaptureFixture) -> None:
    cache = PrefixCache(limit_bytes=2**60, chunk_bytes=2**59)  # more than any machine has
    with caplog.at_level(logging.WARNING):
        assert not cache.insert(names(0), [torch.ones(1, 4)])
        assert not cache.insert(names(1), [torch.ones(1, 4)])
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == [
        "no more than 0 examples' frozen outputs are kept"
    ]


# Disk


def test_a_directory_is_made_and_one_that_cannot_be_keeps_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PrefixCache(limit_bytes=MiB, directory=tmp_path / "new" / "one")
    assert cache.insert(names(0), rows_of(1))
    assert (tmp_path / "new" / "one").is_dir()
    (tmp_path / "file").touch()
    cache = PrefixCache(limit_bytes=MiB, directory=tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert not cache.insert(names(0), rows_of(1))
        assert not cache.insert(names(0), rows_of(1))
    assert [record.getMessage() for record in caplog.records] == [
        f"no more than 0 examples' frozen outputs are kept in {tmp_path / 'file'}: File exists"
    ]


def open_files(directory: Path) -> int:
    """How many of this process's open files lie in a directory, with a name or without."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sum(str(directory) in line for line in [*links, *maps])


linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc, where open files are listed")


@linux
def test_the_disk_is_given_back(tmp_path: Path) -> None:
    cache, rows = PrefixCache(limit_bytes=8 * MiB, directory=tmp_path, chunk_bytes=MiB), [torch.ones(30, 40_000)]
    cache.insert(names(*range(30)), rows)
    assert open_files(tmp_path) >= 4
    assert list(tmp_path.iterdir()) == []
    view = cache.fetch(names(0))
    cache.clear()
    assert open_files(tmp_path) > 0
    assert torch.equal(view[0], rows[0][:1])
    del view
    assert open_files(tmp_path) == 0


SCRIPT = """
import logging, os, resource, sys, time
from pathlib import Path
import torch
from frostline.populations.prefix.prefix_cache import PrefixCache

logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
directory, ending = Path(sys.argv[1]), sys.argv[2]
if ending == "without-reserving":
    del os.posix_fallocate
if ending == "small-files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 2**20, 5 * 2**20))
cache = PrefixCache(limit_bytes=64 * 2**20, directory=directory, chunk_bytes=2**20)
twin = torch.randn(400, 8192)
for _ in range(2):
    for start in range(0, 400, 16):
        cache.insert([b"%d" % number for number in range(start, start + 16)], [twin[start : start + 16]])
    held = [number for number in range(400) if not cache.missing([b"%d" % number])]
    kept = cache.fetch([b"%d" % number for number in reversed(held)])[0]
    assert torch.equal(kept, twin[list(reversed(held))])
    print("held", len(held), flush=True)
    assert cache.is_full == (len(held) < 400)
    if ending in ("end", "without-reserving"):
        # What was reserved of a chunk that did not fit is given back at once.
        disk = os.statvfs(directory)
        assert disk.f_bavail * disk.f_frsize > 600 * 2**10
    if ending == "sleep":
        time.sleep(600)
    del kept
    cache.clear()
"""


def run_script(directory: Path, ending: str, *before: str) -> list[str]:
    ended = subprocess.run(
        [*before, sys.executable, "-c", SCRIPT, str(directory), ending], capture_output=True, text=True
    )
    assert ended.returncode == 0, (ended.returncode, ended.stderr)
    return ended.stdout.splitlines()


def check_stopped(lines: list[str], *, directory: Path, num_chunks: int, reason: str) -> None:
    # 31 rows to a chunk: of 32 KiB and a key. The first filling warns, the second fits as many again.
    held = f"held {31 * num_chunks}"
    warning = f"no more than {31 * num_chunks} examples' frozen outputs are kept in {directory}: {reason}"
    assert lines == [warning, held, held]


@linux
@pytest.mark.multiprocess
def test_where_files_may_not_grow_it_stops(tmp_path: Path) -> None:
    lines = run_script(tmp_path, "small-files")
    check_stopped(lines, directory=tmp_path, num_chunks=5, reason="File too large")


@linux
@pytest.mark.multiprocess
@pytest.mark.parametrize("ending", ["end", "without-reserving"])
def test_a_full_disk_only_stops_the_growth(tmp_path: Path, ending: str) -> None:
    # In a namespace of its own anybody may mount: a disk of 6.5 MiB.
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount += [f'mount -t tmpfs -o size=6656k none {tmp_path} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk here")
    lines = run_script(tmp_path, ending, *mount)
    check_stopped(lines, directory=tmp_path, num_chunks=6, reason="No space left on device")


@pytest.mark.multiprocess
def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "sleep"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held 400\n"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
