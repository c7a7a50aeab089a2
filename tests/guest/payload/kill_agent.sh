#!/bin/sh
kill -KILL $PPID
