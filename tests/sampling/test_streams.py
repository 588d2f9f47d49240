"""Streams: the draws of each chain are a function of its key and its calls, also in branches, children and spreads."""

import pytest
import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import uniforms
from lattice_flows.streams import CALLS, Streams, digest, keyed


def draws(seed, *key, call=0, n=3):
    """The first numbers of a call of the stream of a key."""
    name = torch.frombuffer(bytearray(digest(seed, *key)), dtype=torch.int64)
    return uniforms(name[None], torch.tensor([call]), n, torch.float32)[0]


def test_streams_and_calls_by_key():
    streams = Streams(7, [4, 1])
    assert streams.rand(3).equal(torch.stack([draws(7, 4), draws(7, 1)]))
    assert streams.key(1) == (7, 1)
    assert streams.rand(3)[1].equal(draws(7, 1, call=1))
    assert streams.child(1, 5, "a").rand(3)[0].equal(draws(7, 1, 5, "a"))
    assert streams.rand(2, 3).shape == (2, 2, 3)
    assert streams.rand(2, dtype=torch.float64).dtype == torch.float64
    assert streams.counters.tolist() == [4, 4]


def test_generators_are_of_a_call():
    """The first are those of `keyed`; the next ones differ, and from one another."""
    streams = Streams(7, [4, 1])
    drawn = [streams.draw(lambda g: torch.randn(3, generator=g)) for _ in range(3)]
    assert drawn[0][1].equal(torch.randn(3, generator=keyed(7, 1)))
    assert len({tuple(numbers) for call in drawn for numbers in call.tolist()}) == 6
    streams.set_state(torch.tensor([1, 2]))
    again = streams.draw(lambda g: torch.randn(3, generator=g))
    assert again.equal(torch.stack([drawn[1][0], drawn[2][1]]))


def test_branches_share_numbers_and_have_forks_of_their_own():
    streams = Streams(7, 2)
    low, high = streams.branch(0), streams.branches([(1,), (2, 3)])
    assert low.counters is high.counters is streams.counters
    first = low.rand(3)
    assert not high.rand(3).equal(first)
    assert (low.key(1), high.key(1)) == ((7, 1, 0), (7, 1, 2, 3))
    assert high.branch(9).child(1, 5).rand(3)[0].equal(draws(7, 1, 2, 3, 9, 5))
    assert (low.seed, low.chains, low.device) == (7, (0, 1), streams.device)
    with pytest.raises(ValueError, match="shorter"):
        streams.branches([(1,)])


def test_a_child_is_one_stream_that_its_key_names():
    streams = Streams(7, [4, 1]).branch(3)
    child = streams.child(1, 8, 2)
    assert (len(child), child.chains, child.key(0)) == (1, (1,), (7, 1, 3, 8, 2))
    assert child.rand(3)[0].equal(draws(7, 1, 3, 8, 2))
    before = streams.get_state()
    child.rand(5)
    assert streams.get_state().equal(before)
    again = streams.child(1, 8, 2)
    assert not again.rand(3).equal(child.rand(3))  # a child begins anew


def test_a_spread_is_new_streams_under_one():
    spread = Streams(7, [4, 1]).child(1, 8).spread(3)
    assert spread.chains == (0, 1, 2)
    assert spread.key(2) == (7, 1, 8, 2)
    assert spread.rand(3)[2].equal(draws(7, 1, 8, 2))


def test_states():
    streams = Streams(7, 3)
    state = streams.get_state()
    first = streams.rand(4)
    streams.branch(1).set_state(state)
    assert streams.rand(4).equal(first)
    streams.set_state(torch.tensor([0, 5, CALLS - 1]))  # of chains that were made apart
    assert streams.rand(3).equal(torch.stack([draws(7, k, call=c) for k, c in enumerate((0, 5, CALLS - 1))]))
    assert streams.get_state().tolist() == [1, 6, CALLS]
    with pytest.raises(InvalidInput, match="the state of 3 streams does not fit 2 chains"):
        Streams(7, 2).set_state(state)
    for wrong in (torch.zeros(3, 5056, dtype=torch.uint8), torch.zeros(3), torch.tensor([0, -1, 0]), state + CALLS + 1):
        with pytest.raises(InvalidInput, match=r"must be int64 .*another version"):
            streams.set_state(wrong)


def test_no_numbers_beyond_the_last_call():
    streams = Streams(7, 1)
    streams.set_state(torch.tensor([CALLS]))
    with pytest.raises(InvalidInput, match=r"2\^32 calls, got number 4294967296"):
        streams.rand(1)
    with pytest.raises(InvalidInput, match="must be int64"):
        streams.get_state()


@pytest.mark.parametrize(("seed", "chains"), [(-1, 2), (0, 0), (0, []), (0, [-1])])
def test_bad_streams(seed, chains):
    with pytest.raises(InvalidInput, match="seed >= 0 and chains >= 0"):
        Streams(seed, chains)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_numbers_on_a_gpu():
    here, there = Streams(7, 5), Streams(7, 5, "cuda")
    for dtype in (torch.float32, torch.float64):
        numbers = there.rand(3, 7, dtype=dtype)
        assert numbers.is_cuda
        assert numbers.cpu().equal(here.rand(3, 7, dtype=dtype))
    state = there.get_state()
    first = there.draw(lambda g: torch.randn(4, generator=g, device="cuda"))
    there.branch(1).set_state(state)
    assert there.draw(lambda g: torch.randn(4, generator=g, device="cuda")).equal(first)
    assert len(set(first.flatten().tolist())) == 20
