"""`python -m fidkit`."""

from fidkit.cli import main

main()
