"""Uniform numbers by key and counter: published words of the generator, and the same bits from every implementation."""

import math

import pytest
import torch
from op_laws import poisoned  # noqa: F401

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, uniforms
from lattice_flows.kernels.uniforms import reference

pytestmark = pytest.mark.usefixtures("poisoned")
by_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

LARGEST = 2**32 - 1
PHILOX = [  # counter, key, words: the known answers of Random123 for philox4x32-10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LARGEST,) * 4, (LARGEST,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def streams(generator):
    """Names whose bits are all 0, all 1 and any, and calls."""
    keys = torch.tensor([[0, 0], [-1, -1], [3, -2]])
    any_bits = torch.randint(-(2**63), 2**63 - 1, (4, 2), generator=generator)
    return torch.cat((keys, any_bits)), torch.tensor([0, LARGEST, 7, 0, 1, 2**31, 5])


@pytest.mark.parametrize(("counter", "key", "words"), PHILOX)
def test_known_answers(counter, key, words):
    found = reference.philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(map(int, found)) == words


def test_the_first_block_of_a_call():
    """The counter is (0, call, upper half of the name): here the published words are those of block 0."""
    (_, call, *upper), key, _ = PHILOX[2]
    name = torch.tensor([[key[0] | key[1] << 32, upper[0] | upper[1] << 32]]).view(torch.int64)
    words = reference.philox(tuple(map(torch.tensor, (0, call, *upper))), tuple(map(torch.tensor, key)))
    words = [int(word) for word in words]
    singles = uniforms(name, torch.tensor([call]), 4, torch.float32)[0]
    assert singles.tolist() == [(word >> 8) / 2**24 for word in words]
    doubles = uniforms(name, torch.tensor([call]), 2, torch.float64)[0]
    assert doubles.tolist() == [(words[i] >> 11 | words[i + 1] << 21) / 2**53 for i in (0, 2)]


@by_dtype
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 31, 64, 65, 259])
def test_the_same_bits_as_the_reference(n, dtype, generator):
    keys, calls = streams(generator)
    assert uniforms(keys, calls, n, dtype).equal(reference.uniforms(keys, calls, n, dtype))


@by_dtype
def test_nothing_depends_on_what_stands_beside_it(dtype, generator):
    keys, calls = streams(generator)
    whole = uniforms(keys.expand(2, 7, 2).flatten(0, 1), calls.repeat(2), 100, dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for k in range(7):
            assert uniforms(keys[k : k + 1], calls[k : k + 1], 100, dtype).equal(whole[k : k + 1])
    finally:
        torch.set_num_threads(threads)
    assert whole[:7].equal(whole[7:])


@by_dtype
def test_numbers_are_uniform_and_uncorrelated(dtype):
    """Of neighbouring streams, calls and numbers: moments and correlations, in units of their known errors."""
    n = 20_000
    keys, calls = torch.tensor([[0, 0], [1, 0], [0, 1], [0, 0]]), torch.tensor([0, 0, 0, 1])
    x = uniforms(keys, calls, n, dtype).double()
    assert (x >= 0).all()
    assert (x < 1).all()
    for power in (1, 2, 3):
        error = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / n)
        assert ((x**power).mean(1) - 1 / (power + 1)).abs().max() < 5 * error
    y = torch.cat((x, x.roll(1, 1)[:1], x.roll(n // 4, 1)[:1])) - 0.5
    correlations = (y @ y.T / n * 12).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / math.sqrt(n)


def test_without_a_compiler(generator, monkeypatch):
    keys, calls = streams(generator)
    compiled = uniforms(keys, calls, 10, torch.float32)
    monkeypatch.setattr(build, "native", lambda *_: None)
    assert uniforms(keys, calls, 10, torch.float32).equal(compiled)


@pytest.mark.parametrize(
    ("keys", "calls", "n", "dtype", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2), 3, torch.float32, "int64 keys"),
        (torch.zeros(2, 3).long(), torch.zeros(2).long(), 3, torch.float32, r"got torch.int64 \(2, 3\)"),
        (torch.zeros(2, 2).long(), torch.zeros(1).long(), 3, torch.float32, "int64 keys"),
        (torch.zeros(2, 2).long(), torch.zeros(2).long(), -1, torch.float32, "got -1 of torch.float32"),
        (torch.zeros(2, 2).long(), torch.zeros(2).long(), 3, torch.float16, "got 3 of torch.float16"),
        (torch.zeros(1, 2).long(), torch.tensor([2**32]), 3, torch.float32, r"2\^32 calls, got number 4294967296"),
        (torch.zeros(1, 2).long(), torch.tensor([-1]), 3, torch.float32, r"2\^32 calls, got number -1"),
        (torch.zeros(1, 2).long(), torch.zeros(1).long(), 2**34 + 1, torch.float32, "blocks"),
    ],
)
def test_bad_input(keys, calls, n, dtype, message):
    with pytest.raises(InvalidInput, match=message):
        uniforms(keys, calls, n, dtype)
