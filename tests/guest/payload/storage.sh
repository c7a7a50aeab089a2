#!/bin/sh
# Counts boots in the encrypted storage.
store=/mnt/encryptedstore
grep " $store " /proc/mounts
stat -c 'root directory %u:%g %a' $store
stat -c 'boots %u:%g %a' $store/boots 2>/dev/null
echo "size $(df -k $store | tail -n 1 | awk '{print $2}')"
cat $store/boots 2>/dev/null
echo "a boot" >> $store/boots
head -c 3000000 /dev/zero | tr '\0' S > $store/filler
