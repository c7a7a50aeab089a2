"""Fuzz targets of `avf.disk`: no input may raise anything but a DiskError, or lead outside the image.

    python -m fuzz disk TARGET [-runs=N | -max_total_time=SECONDS | other options of libFuzzer]

finds inputs, starting from `corpus/TARGET`, and keeps new ones in `build/fuzz/disk/TARGET`.
"""
