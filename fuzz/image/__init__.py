"""Fuzz targets of `avf.image`: no package, kernel or module may raise anything but an ImageError."""
