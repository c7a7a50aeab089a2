"""What runs inside the guest: the agent, what payloads import, and the sources of the guest's C programs.

Standard library only. Nothing on the host imports it; the image builder compiles it for the guest.
"""
