"""Generators by keys: no two keys share one, and all bits of a key reach the state."""

import itertools

import numpy as np
import pytest
import torch

from lattice_flows import streams
from lattice_flows.errors import LatticeFlowsError
from lattice_flows.flows.recipe import seeded
from lattice_flows.streams import digest, keyed

PHILOX = [  # counter, key, numbers: the known answers of Random123 for philox4x64-10
    (0, 0, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (2**256 - 1, 2**128 - 1, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (
        0x082EFA98EC4E6C89_A4093822299F31D0_13198A2E03707344_243F6A8885A308D3,
        0xBE5466CF34E90C6C_452821E638D01377,
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


@pytest.mark.parametrize(("counter", "key", "numbers"), PHILOX)
def test_known_answers_of_philox(counter, key, numbers):
    philox = np.random.Philox(counter=(counter - 1) % 2**256, key=key)  # numpy counts before it draws
    assert [int(word, 16) for word in numbers.split()] == philox.random_raw(4).tolist()


def test_a_keyed_generator_is_mt19937_from_philox():
    words = np.random.Philox(key=int.from_bytes(digest(7, "a", 3), "little")).random_raw(312).view(np.uint32)
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    drawn = torch.empty(1000, dtype=torch.int64).random_(0, 2**32, generator=keyed(7, "a", 3))
    assert drawn.tolist() == twister.random_raw(2000)[1::2].tolist()


def test_known_answers_of_keys():
    assert digest(7).hex() == "7ce76f7ac73316c27bd96080a3ff8ad1"
    assert digest(2**63 - 1, "shard", 2**40, 3).hex() == "be813760f163abff34a86a035a3f8b0c"
    drawn = torch.empty(3, dtype=torch.int64).random_(0, 2**32, generator=keyed(7, 0))
    assert drawn.tolist() == [
        492853218,
        643032991,
        476289667,
    ]


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
    assert generator.initial_seed() == int.from_bytes(digest(7, 0)[:8], "little")
