"""Chance in data, training and attacks: generators that depend on nothing but what they are for."""

import hashlib
import json

import torch


def generator(device: torch.device, *key: int | str) -> torch.Generator:
    """A generator whose stream depends on nothing but `key`."""
    seed = int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(seed)
