"""python -m fastat VERB."""

import sys

from fastat.cli import main

if __name__ == "__main__":
    sys.exit(main())
