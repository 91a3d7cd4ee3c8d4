"""AutoAttack `standard` (Croce and Hein 2020), driven batch by batch so that it can stop and go on.

The four attacks are `pyautoattack`'s; the loop around them is ours, because its own cannot resume and returns no
verdict per attack. Same order, batches and seeds: the same verdict, image by image (tests/evaluation/).
"""

import csv
import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from fastat.attacks import Attacked
from fastat.config.attack_names import PARTS, parts_for
from fastat.errors import BadInput
from fastat.evaluation.whitebox import COLUMNS, Row, looked_at, require_eval, rows
from fastat.machine import files

log = logging.getLogger(__name__)

SEAL = "checksum"  # the attack of the row that seals a partial file
Take = Callable[[Tensor], tuple[Tensor, Tensor]]


def standard(
    model: nn.Module,
    take: Take,
    index: Tensor,
    *,
    eps: float,
    batch_size: int,
    seed: int,
    partial: Path,
    norm: str = "Linf",
    parts: tuple[str, ...] = PARTS,
) -> list[Row]:
    """Rows of `clean` and of each attack on the images that were still standing before it.

    index (n,) says which images; `take` gives them, (B, C, H, W) float32 in [0, 1], and their labels (B,), a batch at
    a time. Finished batches are kept in `partial`; the caller names that file after weights and protocol. Half a
    batch, of a file that was cut, is attacked again: every image is accounted for. norm: or L2. parts: fewer than all
    are not the standard attack.
    Raises: BadInput for images out of range, a model in train mode, or a damaged `partial`.
    """
    require_eval(model)
    found = read_partial(partial, index)
    with frozen(model), torch.random.fork_rng():
        with torch.no_grad():
            n_classes = model(checked(take(index[:1])[0])).shape[1]
        earlier: list[str] = []
        every = attacks(model, n_classes, eps, seed, index.device, norm)
        wanted_parts = {name: perturb for name, perturb in every.items() if name in parts}
        for name, perturb in {"clean": checked_alone, **wanted_parts}.items():
            fallen = {row["index"] for row in found if row["attack"] in earlier and not row["correct"]}
            standing = torch.tensor([i for i in index.tolist() if i not in fallen], device=index.device).long()
            for at in standing.split(batch_size):
                wanted = set(at.tolist())
                if wanted <= {row["index"] for row in found if row["attack"] == name}:
                    continue
                found = [row for row in found if row["attack"] != name or row["index"] not in wanted]  # half a batch
                x, y = take(at)
                x_adv = perturb(x.contiguous().clone(), y.clone())
                found += rows(name, at, y, verdict(model, x_adv, y))
                write_partial(partial, found)
            earlier.append(name)
            broken = sum(row["attack"] == name and not row["correct"] for row in found)
            log.info("%s: broke %d of %d", name, broken, len(standing))
    return found


def checked_alone(x: Tensor, _y: Tensor) -> Tensor:
    """No attack: the images as they are."""
    return checked(x)


def checked(x: Tensor) -> Tensor:
    """Raises: BadInput for images out of range."""
    if not (torch.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
        raise BadInput("AutoAttack takes finite images in [0, 1]; divide 8-bit images by 255")
    return x.contiguous()


def attacks(model: nn.Module, n_classes: int, eps: float, seed: int, device: torch.device, norm: str = "Linf"):
    """The standard sequence, name -> perturb(x, y), of the parts that so many classes have. Under 10, fewer targets."""
    kit = AutoAttack(model, eps=eps, norm=norm, seed=seed, version="standard", device=device)
    targets = min(9, n_classes - 1)
    kit.apgd.loss, kit.apgd_targeted.n_target_classes = "ce", targets
    kit.fab.targeted, kit.fab.n_target_classes = True, targets
    sequence = {"apgd-ce": kit.apgd, "apgd-t": kit.apgd_targeted, "fab-t": kit.fab, "square": kit.square}
    return {name: sequence[name].perturb for name in parts_for(n_classes)}


def verdict(model: nn.Module, x: Tensor, y: Tensor) -> Attacked:
    """Is the model right at x? AutoAttack does not say in which step it went wrong."""
    return looked_at(model, x, y)._replace(step=torch.full_like(y, -1))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No weight gradients inside."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def write_partial(path: Path, found: list[Row]) -> None:
    """Keep the rows, and a last one that is their number, checksum, and whose they are: the file's name says it."""
    files.write_rows(path, COLUMNS, [*found, seal(found, path.stem)])


def seal(found: list[Row], whose: str) -> Row:
    """What tells these rows from others."""
    text = "\n".join(",".join(str(row[name]) for name in COLUMNS) for row in found)
    return {"attack": SEAL, "index": len(found), "label": zlib.crc32(text.encode()), "correct": 0, "step": whose}


def read_partial(path: Path, index: Tensor) -> list[Row]:
    """The rows of the batches that an earlier process finished, of the images `index`.

    Raises: BadInput if they are not what was written, or of another evaluation.
    """
    if not path.exists():
        return []
    way_out = f"Delete it to attack afresh: rm {path}"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = [{**row, **{k: int(row[k]) for k in ("index", "label", "correct")}} for row in csv.DictReader(file)]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error}). {way_out}") from error
    if not found:
        raise BadInput(f"{path} is empty. {way_out}")
    if found[-1]["attack"] == SEAL:
        *found, last = found
        if last != seal(found, str(last["step"])):
            raise BadInput(f"{path} is damaged: its rows are not those that were written. {way_out}")
        if last["step"] not in ("", path.stem):  # '': a version before this one made it
            raise BadInput(f"{path} is of another evaluation: it was written as {last['step']}.csv. {way_out}")
    else:
        log.warning("%s has no checksum: a version before this one made it. It goes on, unverified", path)
    whose, known = {(row["attack"], row["index"]) for row in found}, set(index.tolist())
    if len(whose) < len(found) or not {i for _, i in whose} <= known or not {row["correct"] for row in found} <= {0, 1}:
        raise BadInput(f"{path} is damaged: an image stands there twice, or is none of this evaluation's. {way_out}")
    return found
