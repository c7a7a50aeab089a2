"""Measurements. Every module has `run() -> dict[str, float]`; ratios are to a peer measured in the same run."""
