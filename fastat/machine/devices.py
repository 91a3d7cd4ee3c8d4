"""Where a run computes, and how precisely: one code path for the CPU and every GPU."""

import copy
import errno
import fcntl
import logging
import os
import re
import socket
import stat
import tempfile
from pathlib import Path

import torch
from torch import nn

from fastat.errors import BadInput
from fastat.machine import numerics

log = logging.getLogger(__name__)

COMPILERS = {"default": {}, "cudagraphs": {"mode": "reduce-overhead"}}
_slots: list[int] = []  # open files whose locks this process holds until it ends


def pick(wanted: str, runs_per_gpu: int = 1) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Of several GPUs, one where fewer than `runs_per_gpu` runs are at work.

    A process that torchrun started takes the GPU of its local rank later (fastat/machine/processes.py).
    Raises: BadInput if CUDA is asked for and absent, or no folder is private to this user.
    """
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise BadInput("device is cuda, but torch sees no CUDA device here. Write `device: cpu` or `device: auto`.")
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if wanted == "auto" and not present and given not in ("", "-1"):
        log.warning("GPU %s was given to this process, and torch sees none: it computes on the CPU", given)
    if wanted == "cpu" or not present:
        return torch.device("cpu")
    if "LOCAL_RANK" in os.environ:
        return torch.device("cuda")
    return torch.device("cuda", free_gpu(torch.cuda.device_count(), runs_per_gpu))


def free_gpu(n_gpus: int, runs_per_gpu: int) -> int:
    """The number of a GPU with a free slot, which is taken until this process ends. With none free: the first.

    A slot is a locked file in a folder that nobody else can write into, named after what CUDA_VISIBLE_DEVICES calls the
    GPU. One that cannot be locked is passed over with a warning.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == n_gpus else [str(number) for number in range(n_gpus)]
    folder = private_folder()
    for slot in range(runs_per_gpu):
        for number, name in enumerate(names):
            gpu = re.sub(r"[^A-Za-z0-9-]", "_", name)  # as MIG-GPU-.../1/0
            path = folder / f"gpu{gpu}-slot{slot}.lock"
            try:
                taken = take_slot(path)
            except OSError as error:
                log.warning("cannot use the slot of GPU %s (%s: %s): passed over", name, path, error.strerror)
                continue
            if taken:
                return number
    log.warning("all %d GPUs have %d runs of this user: sharing GPU 0 with them", n_gpus, runs_per_gpu)
    return 0


def private_folder() -> Path:
    """Where this user's processes on this machine find one another: /tmp/fastat-UID, with mode 0700.

    Where somebody put that name into /tmp before, below ~/.cache, with a warning.
    Raises: BadInput if neither can be had.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    home, found = os.path.expanduser("~"), []
    folders = [Path(tempfile.gettempdir()) / f"fastat-{os.getuid()}", Path(home) / ".cache/fastat" / host]
    for folder in folders if os.path.isabs(home) else folders[:1]:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            check_private(folder)
        except OSError as error:
            found.append(f"{folder}: {error.strerror}")
            log.warning("%s is not used for the slots of GPUs: %s", folder, error.strerror)
            continue
        return folder
    raise BadInput(
        f"no folder for the slots of GPUs ({'; '.join(found)}). Set TMPDIR to one of your own, or `device: cpu`"
    )


def check_private(folder: Path) -> None:
    """Raises: OSError if it is a link or no folder, not this user's, or others may look or write into it."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.ENOTDIR, "it is a link or no folder")
    if found.st_uid != os.getuid():
        raise OSError(errno.EPERM, f"it is of another user, number {found.st_uid}")
    if found.st_mode & 0o077:
        raise OSError(errno.EPERM, f"others may use it: its mode is {stat.S_IMODE(found.st_mode):o}, not 700")


def take_slot(path: Path) -> bool:
    """Lock the file until this process ends; False if another process has.

    Raises: OSError if it is a link or no file of this user's, or cannot be locked.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise OSError(errno.EPERM, "it is no file of yours")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            return False
        raise
    _slots.append(file)
    return True


def layout(device: torch.device) -> torch.memory_format:
    """Of images and weights under attack, in float32: NCHW is faster on a GPU (docs/gpu.md), and not on a CPU."""
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def name(device: torch.device) -> str:
    """What people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else numerics.processor_name()


def memory(device: torch.device) -> int:
    """Bytes of memory that it has: the machine's, for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def set_precision(precision: str) -> None:
    """float32 means float32: torch's own default lets cuDNN round convolutions to TF32.

    And cuDNN adds up in the same order every time: by default it may take kernels that do not.
    """
    kind = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which batches are trained: bfloat16 where torch thinks it safe, if `precision` is bf16.

    Weights, perturbations, losses and input gradients stay float32, and there is no loss scale to leak into norms.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def compile_model(model: nn.Module, how: str, example: torch.Tensor, reason: str = "") -> str:
    """Compile `model` in place, as the recipe's `compile` says; or leave it as it is.

    `example` is a batch like those to come; a copy of the model is compiled and run on it first. `reason`: why the
    method does not allow it; '' if it does.
    Returns what was done: `off`, the kind of compilation, or `off: ` and the reason why it was not possible.
    """
    if how == "off":
        return how
    if not reason:
        try:
            probe = copy.deepcopy(model)
            probe.compile(**COMPILERS[how])
            probe(example.requires_grad_()).sum().backward()
        except Exception as error:  # whatever a compiler, driver or graph may raise: the run can do without
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if reason:
        log.warning("not compiled (%s): %s", how, reason)
        return f"off: {reason}"
    model.compile(**COMPILERS[how])
    return how
