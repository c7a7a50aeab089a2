"""Fuzz targets of `avf.apk`: no input may raise anything but an ApkError, or use more memory than is allowed.

    python -m fuzz apk TARGET [-runs=N | -max_total_time=SECONDS | other options of libFuzzer]

finds inputs, starting from `corpus/TARGET`, and keeps new ones in `build/fuzz/apk/TARGET`.
"""
