"""Streams: what each chain draws is a function of its key alone, also in branches, children and spreads."""

import pytest
import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.streams import Streams, keyed


def test_streams_and_forks_by_key():
    streams = Streams(7, [4, 1])
    assert streams.rand(3)[0].equal(torch.rand(3, generator=keyed(7, 4)))
    assert streams.key(1) == (7, 1)
    assert streams.fork(1, 5, 6).get_state().equal(keyed(7, 1, 5, 6).get_state())


def test_branches_share_numbers_and_have_forks_of_their_own():
    streams = Streams(7, 2)
    low, high = streams.branch(0), streams.branches([(1,), (2, 3)])
    assert low.generators is high.generators is streams.generators
    assert (low.key(1), high.key(1)) == ((7, 1, 0), (7, 1, 2, 3))
    assert high.branch(9).fork(1, 5).get_state().equal(keyed(7, 1, 2, 3, 9, 5).get_state())
    assert (low.seed, low.chains, low.device) == (7, (0, 1), streams.device)
    with pytest.raises(ValueError, match="shorter"):
        streams.branches([(1,)])


def test_a_child_is_one_stream_that_its_key_names():
    streams = Streams(7, [4, 1]).branch(3)
    child = streams.child(1, 8, 2)
    assert (len(child), child.chains, child.key(0)) == (1, (1,), (7, 1, 3, 8, 2))
    assert child.rand(3)[0].equal(torch.rand(3, generator=keyed(7, 1, 3, 8, 2)))
    before = streams.get_state()
    child.rand(5)
    assert streams.get_state().equal(before)
    again = streams.child(1, 8, 2)
    assert not again.rand(3).equal(child.rand(3))  # a child begins anew


def test_a_spread_is_new_streams_under_one():
    spread = Streams(7, [4, 1]).child(1, 8).spread(3)
    assert spread.chains == (0, 1, 2)
    assert spread.key(2) == (7, 1, 8, 2)
    assert spread.rand(3)[2].equal(torch.rand(3, generator=keyed(7, 1, 8, 2)))


def test_states():
    streams = Streams(7, 3)
    state = streams.get_state()
    first = streams.rand(4)
    streams.branch(1).set_state(state)
    assert streams.rand(4).equal(first)
    others = [torch.Generator().manual_seed(k) for k in range(3)]
    streams.set_state(torch.stack([other.get_state() for other in others]))  # of whatever generators a file holds
    assert streams.rand(4).equal(torch.stack([torch.rand(4, generator=other) for other in others]))
    with pytest.raises(InvalidInput, match="the state of 3 streams does not fit 2 chains"):
        Streams(7, 2).set_state(state)


@pytest.mark.parametrize(("seed", "chains"), [(-1, 2), (0, 0), (0, []), (0, [-1])])
def test_bad_streams(seed, chains):
    with pytest.raises(InvalidInput, match="seed >= 0 and chains >= 0"):
        Streams(seed, chains)
