"""Tar archives, unpacked as every Python from 3.11 on can: filters came with 3.11.4, and Debian 12 has 3.11.2."""

import tarfile
from typing import Any

SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
