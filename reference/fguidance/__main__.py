"""`python -m fguidance` is the command `fguidance`."""

from fguidance.cli import main

main()
