"""What installed packages offer, by entry points. Their metadata is read, their code is not imported. No torch.

A package says in its pyproject.toml, as of a network: [project.entry-points."fastat.networks"], small = "mynets:small".
"""

import functools
import re
from importlib import metadata

from fastat.errors import BadInput


@functools.cache
def entries(group: str) -> dict[str, str]:
    """Name -> `package.module:attribute`, or `package.module`, of every entry point of a group, sorted by name.

    Raises: BadInput for a name that no run's path can have, and for one that two packages give to different things.
    """
    found: dict[str, str] = {}
    for entry in sorted(metadata.entry_points(group=group)):
        package = entry.dist.name if entry.dist else "an installed package"
        if not re.fullmatch("[a-z0-9_]+", entry.name):
            raise BadInput(
                f"entry point {entry.name!r} of {package} in {group}: a name must be of a-z, 0-9 and _. "
                f"Have it renamed there, or pip uninstall {package}"
            )
        value = f"{entry.module}:{entry.attr}" if entry.attr else entry.module
        if found.setdefault(entry.name, value) != value:
            raise BadInput(
                f"two packages offer {entry.name!r} in {group}: {found[entry.name]} and {value}. Uninstall one"
            )
    return found
