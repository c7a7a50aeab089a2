#!/bin/sh
# Leaves the encrypted storage as a payload that is root leaves one which nobody has handed over.
store=/mnt/encryptedstore
chown root:root $store $store/boots
chmod 755 $store
chmod 600 $store/boots
id -u
