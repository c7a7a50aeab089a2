"""virtualizationservice: the one service per host (or per user) that gives out what is unique.

A program, not a library: run `virtualizationservice`, talk to it with `avf.aidl.virtualizationservice_internal`.
"""
