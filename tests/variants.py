"""Variants of our recipes that run other code than their method does by default: found, not listed."""

from dataclasses import asdict
from typing import Any

import methods
from fastat.config.grid import load_config
from fastat.config.recipe import resolve, variants
from fastat.config.spec import RunSpec


def switched(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """What is turned on or off, or has another word: parameter -> word, or whether it is on."""
    default = asdict(methods.config_class(method)())
    found = {}
    for key, value in params.items():
        if key == "label_smoothing":  # the same losses of other targets: tests/methods/test_label_smoothing.py
            continue
        if isinstance(value, str) and value.isidentifier():  # a word, and no length
            found[key] = value if value != default[key] else None
        elif not isinstance(default[key], tuple) and bool(value) != bool(default[key]):
            found[key] = bool(value)
    return {key: value for key, value in found.items() if value is not None}


def that_run_other_code() -> dict[str, dict[str, Any]]:
    """METHOD/VARIANT -> parameters, on CIFAR10 at 8/255; METHOD/VARIANT/epsN where it takes a larger eps."""
    config, seen, found = load_config(), [], {}
    for eps in (8, 16):
        for method in methods.ours():
            for variant in variants()[method]:
                spec = RunSpec("cifar10", "preact_resnet18", eps, method, variant, 0)
                params = resolve(spec, config).params
                turned = (method, switched(method, params))
                if turned[1] and turned not in seen:
                    seen.append(turned)
                    found[f"{method}/{variant}" + f"/eps{eps}" * (eps != 8)] = params
    return found


PARAMS = that_run_other_code()
