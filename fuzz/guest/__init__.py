"""Fuzz targets of `avf.guest`: inputs raise nothing but their readers' errors and mean the same to the host."""
