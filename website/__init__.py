"""The documentation site: `python -m website OUT` makes it from docs/, docstrings and commands, without a network."""
