"""Generators by keys: no two keys share one, and all bits of a key reach the state."""

import itertools

import numpy as np
import pytest
import torch

from lattice_flows import streams
from lattice_flows.errors import LatticeFlowsError
from lattice_flows.flows.recipe import seeded
from lattice_flows.kernels import uniforms
from lattice_flows.streams import Streams, digest, keyed


def test_a_keyed_generator_is_mt19937_from_the_words_of_its_stream():
    words = uniforms(Streams(7, [4]).child(0, "a").names, torch.zeros(1).long(), 624, torch.float64)[0] * 2**32
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words.long().numpy(), "pos": 624}}
    drawn = torch.empty(1000, dtype=torch.int64).random_(0, 2**32, generator=keyed(7, 4, "a"))
    assert drawn.tolist() == twister.random_raw(2000)[1::2].tolist()


def test_known_answers_of_keys():
    assert digest(7).hex() == "7ce76f7ac73316c27bd96080a3ff8ad1"
    assert digest(2**63 - 1, "shard", 2**40, 3).hex() == "be813760f163abff34a86a035a3f8b0c"
    drawn = torch.empty(3, dtype=torch.int64).random_(0, 2**32, generator=keyed(7, 0))
    assert drawn.tolist() == [3437431806, 2809053751, 513281355]


def test_no_two_keys_collide_in_64_bits():
    """Keys as training and samplers make them; seeds of 32 bits would have some 9 collisions among these."""
    steps = (digest(0, "shard", step, k) for step in range(20_000) for k in range(8))
    chains = (digest(0, chain, "proposals", 500, number) for chain in range(200) for number in range(600))
    found = np.frombuffer(b"".join(itertools.chain(steps, chains)), "<u8").reshape(-1, 2)
    n = len(found)
    assert [len(np.unique(half)) for half in found.T] == [n, n]
    ones = np.unpackbits(found.view(np.uint8), axis=1).sum(0, dtype=np.int64)
    assert np.abs(ones - n / 2).max() < 5 * np.sqrt(n) / 2


def test_keys_that_look_alike_differ():
    """Other lengths, zeros, words of 32 bits that lie side by side, numbers as words."""
    half = 2**32
    keys = [(), (0,), (0, 0), (1,), (half,), (0, 1), (1, 0), (half + 1,), (1, 1), ("0",), ("",), ("a", "b"), ("ab",)]
    seeds = [0, 1, half, half + 1, 2**64, 2**64 + 1, 2**128, 2**128 + 1, 2**160]
    generators = [keyed(seed, *key) for seed in seeds for key in keys]
    assert len({generator.get_state().numpy().tobytes()[8:] for generator in generators}) == len(generators)
    assert len({generator.initial_seed() for generator in generators}) == len(generators)
    assert digest(np.int64(3), np.uint8(1)) == digest(3, 1)


def test_all_bits_of_a_seed_reach_the_initial_weights():
    drawn = []
    for seed in (3, 3 + 2**32, 3):
        with seeded(seed):
            drawn.append(torch.rand(5))
    assert drawn[0].equal(drawn[2])
    assert not drawn[0].equal(drawn[1])


def test_an_unknown_layout_of_states_is_refused(monkeypatch):
    class Other(torch.Generator):
        def get_state(self):
            return torch.cat((super().get_state(), torch.zeros(8, dtype=torch.uint8)))

    monkeypatch.setattr(streams.torch, "Generator", Other)
    streams._fresh_state.cache_clear()
    with pytest.raises(LatticeFlowsError, match=r"does not keep the state .* install torch 2.13"):
        keyed(7, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_other_devices_take_64_bits():
    generator = keyed(7, 0, device="cuda")
    assert generator.initial_seed() == keyed(7, 0).initial_seed()
