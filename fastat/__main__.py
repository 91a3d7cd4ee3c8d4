"""python -m fastat VERB."""

import sys

if __name__ == "__main__":
    try:
        from fastat.cli import main
    except KeyboardInterrupt:  # before `main` can say it
        sys.exit(130)
    sys.exit(main())
