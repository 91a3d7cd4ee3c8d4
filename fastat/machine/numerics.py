"""Which bits a CPU gives. `portable`: those of AVX2 and one thread, on whatever processor; `native`: its own, faster.

torch and the libraries below it pick their kernels by what the processor can, once, when they are loaded; sums are then
added up in another order, and a training of thousands of steps ends elsewhere. Standard library only, so that `pin` can
come before them.
"""

import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any

from fastat.errors import BadInput

log = logging.getLogger(__name__)

PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products; MKL_CBWR=AVX2 would bind Intel's processors alone, its manual says
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
BY_DEFAULT = ("digits", "digits_dev")  # data sets where `auto` is portable: small enough that it costs no time
NARROW = 8  # channels: below, oneDNN 3.12 at AVX2 writes beyond its memory (seen at 4 and 6, not at 7)
BROKEN = range(4, 7)  # of the networks that methods have themselves: their last layers are of 1 or 3, and run clean
_pinned = False  # whether `pin` came before torch in this process


def pin(wanted: str, dataset: str, device: str, threads: int | None) -> None:
    """Pin the kernels of this process if `wanted` (portable, native or auto) says so. Call it before torch is loaded.

    Raises: BadInput if portable was asked for by name and cannot be kept here.
    """
    global _pinned
    if wanted == "native" or (wanted == "auto" and dataset not in BY_DEFAULT):
        return
    if reason := obstacle(device, threads):
        if wanted == "portable":
            raise BadInput(f"numerics: portable cannot be kept here: {reason}. Write `numerics: auto` or `native`.")
        log.info("numerics: native, for %s", reason)
        return
    os.environ |= PINNED
    _pinned = True


def obstacle(device: str, threads: int | None) -> str:
    """Why numerics cannot be portable here, or ''."""
    if "torch" in sys.modules and not _pinned:
        return "torch is already loaded"
    if device == "cuda":
        return "a GPU has its own"
    if (threads or 1) > 1:
        return f"{threads} threads add up in an order of their own (portable has one)"
    if "flags" not in processor():
        return "this system, which is not Linux on x86-64, does not say whether its processor has AVX2"
    if "avx2" not in processor()["flags"].split():
        return "this processor has no AVX2"
    return ""


def settled(wanted: str, device: Any) -> str:
    """`portable` or `native`: what this process computes with on `device`, a torch.device.

    Raises: BadInput if portable was asked for by name and this is not it.
    """
    kept = "portable" if _pinned and device.type == "cpu" and wanted != "native" else "native"
    if wanted == "portable" and kept != "portable":
        reason = obstacle(device.type, None) or "torch was loaded before its kernels were pinned"
        raise BadInput(f"numerics: portable cannot be kept here: {reason}. Write `numerics: auto` or `native`.")
    return kept


def without_onednn(model: Any = None, narrow: range = range(NARROW)) -> None:
    """Where kernels are pinned, keep networks with layers of so few channels off oneDNN: as portable, slower.

    None: a network that is not ours; whether what its code calls is narrow cannot be seen.
    """
    import torch

    layers = (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)) if model is not None else ()
    if _pinned and (model is None or any(layer.out_channels in narrow for layer in layers)):
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]


def processor() -> dict[str, str]:
    """What Linux tells of the first processor; {} elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor_name() -> str:
    """Its model: `AMD EPYC, family 26 model 2 stepping 1`."""
    found = processor()
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {found[key]}" for key in ("cpu family", "model", "stepping") if key in found]
    return f"{name}, {' '.join(numbers).removeprefix('cpu ')}" if numbers else name


def machine() -> dict[str, Any]:
    """What a CPU's bits depend on besides numerics: processor, instruction set of torch's kernels, threads, BLAS."""
    import torch

    shown = torch.__config__.show().splitlines()
    blas = [line.strip(" -") for line in shown if any(word in line for word in ("Math Kernel", "MKL-DNN", "OpenBLAS"))]
    return {
        "processor": processor_name(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "blas": "; ".join(blas),
    }
