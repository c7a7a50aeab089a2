"""The AIDL contracts that cross process borders, one module per AIDL package.

Wire layout: as of the seed (February 2023). Names are AIDL's in snake_case; method codes and field order are the wire
order. What we add stands last in its parcelable, so a peer with the original contract neither sends nor misses it.

The modules are written by avf-aidl from the .aidl files in idl/: `avf-aidl @src/avf/aidl/idl/avf-aidl.args`.
"""
