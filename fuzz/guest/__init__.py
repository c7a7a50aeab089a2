"""Fuzz targets of `avf.guest`: no input may raise anything but its reader's error, or mean something else to the host."""
