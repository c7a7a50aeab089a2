#!/bin/sh
/mnt/extra-apk/0/bin/tool || echo "not run: $?"
cat /mnt/extra-apk/0/assets/note.txt
