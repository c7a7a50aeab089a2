"""What runs inside the guest: the agent, what payloads import, and the sources of the guest's C programs.

Standard library only. Nothing on the host imports its modules; the image builder compiles them for the guest.
"""

PAYLOAD_ID = 6000
"""uid and gid of the payload; /etc/passwd and /etc/group of the guest call them `payload`."""
HOME = "/data"
"""The payload's home folder."""
HOSTNAME = "microdroid"
SITE_PACKAGES = "/mnt/apk/site-packages"
"""Python packages of the payload, for every interpreter in the guest."""
