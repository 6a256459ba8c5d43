"""`python -m backscatter`."""

from backscatter.cli.main import main

main()
