#!/bin/sh
echo c > /proc/sysrq-trigger
