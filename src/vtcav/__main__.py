"""`python -m vtcav`."""

import sys

from vtcav.cli import main

if __name__ == "__main__":
    sys.exit(main())
