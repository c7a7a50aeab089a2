"""Fuzz targets of `avf.aidlc`: no file may raise anything but an AidlError, or become what is no Python."""
