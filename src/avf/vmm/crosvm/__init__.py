"""crosvm as a VMM."""
