"""Fuzz targets of `avf.binder`'s core, without sockets: whatever a peer sends ends its session or is answered."""
