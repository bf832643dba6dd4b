"""`python -m tunewright`: the command line, for torchrun and for environments without scripts."""

from tunewright.cli.main import main

main()
