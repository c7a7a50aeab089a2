"""Fuzz targets, guided by coverage. Needs `atheris`; replaying a corpus does not."""
