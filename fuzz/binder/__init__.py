"""Fuzz targets of `avf.binder`'s core, which knows no sockets: whatever a peer sends ends its session or is answered.

    python -m fuzz.binder TARGET [-runs=N | -max_total_time=SECONDS | other options of libFuzzer]

finds inputs, starting from `corpus/TARGET`, and keeps new ones in `build/fuzz/binder/TARGET`.
"""
