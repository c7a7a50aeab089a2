"""The templates that clones of this process share."""

import threading
from collections import OrderedDict

from avf.vmm.qemu.unfold import UnfoldedTemplate, unfold

MAX_BYTES = 1 << 30
"""What they may take together, beside the one that was asked for last."""


class UnfoldedTemplates:
    """By key; the ones not asked for for longest go first."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._templates: OrderedDict[str, UnfoldedTemplate] = OrderedDict()

    def get(self, key: str, file: int, memory_size: int) -> UnfoldedTemplate:
        """The caller's own, to be closed, and sealed. It is made from the state in `file` if it is not there.

        Raises TemplateError or OSError.
        """
        with self._lock:
            template = self._templates.pop(key, None)
            if template is None:
                template = unfold(file, memory_size, shared=True)
            self._templates[key] = template
            self._make_room()
            return template.copy()

    def clear(self) -> None:
        """Clones live on."""
        with self._lock:
            while self._templates:
                self._templates.popitem()[1].close()

    def _make_room(self) -> None:
        while len(self._templates) > 1 and self._size() > self._limit:
            _, oldest = self._templates.popitem(last=False)
            oldest.close()

    def _size(self) -> int:
        return sum(template.size for template in self._templates.values())
