"""`python -m streams.cli` is `promptloom`, for places without the script on their path."""

from streams.cli import main

main()
