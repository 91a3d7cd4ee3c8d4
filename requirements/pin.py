"""What `pip install --dry-run --report -` has chosen, on stdin -> a lock with the sha256 of each file, on stdout."""

import json
import sys

for one in json.load(sys.stdin)["install"]:
    name, version = (one["metadata"][key] for key in ("name", "version"))
    print(f"{name}=={version} --hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}")
