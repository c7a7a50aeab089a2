#!/usr/bin/python3
import mmap
import random

random.seed(1)
page = random.randbytes(1 << 20)
hoard = []
while True:
    piece = mmap.mmap(-1, 1 << 20)
    piece.write(page)
    hoard.append(piece)
