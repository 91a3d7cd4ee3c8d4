"""As much of conda as Snakemake calls, over py-rattler: `conda` is not to be had from PyPI. No test in here.

CHANNEL stands for every channel. The pip step is conda's (conda/env/installers/pip.py): a requirements file is written
beside the environment file, and pip reads it there. Here it is read alone, by pip's own parser, into PREFIX/pip.txt.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import rattler
import yaml
from pip._internal.network.session import PipSession
from pip._internal.req import parse_requirements


async def create(file: Path, prefix: Path) -> None:
    """Solve and install the environment, then read what pip would install."""
    wanted = yaml.safe_load(file.read_text())["dependencies"]
    cache = Path(os.environ["CHANNEL"]).parent / "cache"
    records = await rattler.solve(
        sources=[rattler.Channel(Path(os.environ["CHANNEL"]).as_uri())],
        specs=[one for one in wanted if isinstance(one, str)],
        gateway=rattler.Gateway(cache_dir=str(cache / "repodata")),
        virtual_packages=rattler.VirtualPackage.detect(),
        platforms=[rattler.Platform.current(), rattler.Platform("noarch")],
    )
    await rattler.install(
        records=records, target_prefix=str(prefix), cache_dir=str(cache / "pkgs"), show_progress=False
    )
    for one in wanted:
        if isinstance(one, dict):
            with tempfile.NamedTemporaryFile("w", suffix=".requirements.txt", dir=file.absolute().parent) as beside:
                beside.write("\n".join(one["pip"]))
                beside.flush()
                found = [line.requirement for line in parse_requirements(beside.name, PipSession())]
            (prefix / "pip.txt").write_text("\n".join(found) + "\n")


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["--version"]:
        print("conda 25.1.0")
    elif words[:1] == ["info"]:
        print(json.dumps({"conda_prefix": os.environ["CONDA_ROOT"], "platform": "linux-64"}))
    elif words[:1] == ["config"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif words[:2] == ["env", "create"]:
        where = dict(zip(words, words[1:], strict=False))
        asyncio.run(create(Path(where["--file"]), Path(where["--prefix"])))
    sys.stdout.flush()
    os._exit(0)  # py-rattler may crash while the interpreter shuts down
