"""Chance in data, training and attacks: generators that depend on nothing but what they are for."""

import hashlib
import json
import random

import numpy as np
import torch


def generator(device: torch.device, *key: int | str) -> torch.Generator:
    """A generator whose stream depends on nothing but `key`."""
    seed = int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(seed)


def seed_globals(*key: int | str) -> None:
    """Let the generators that code without one of its own draws from (torch's, Python's, numpy's) depend on `key`."""
    seed = generator(torch.device("cpu"), *key).initial_seed()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
