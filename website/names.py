"""In pages of text, `avf.client.AppConfig` written as code leads to its entry in the reference."""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_NAME = re.compile(r"(avf|avf_payload)(\.\w+)+(\(\))?")


class NamesToReferences(SphinxTransform):
    default_priority = 210

    def apply(self, **kwargs: object) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            if _NAME.fullmatch(text) and not isinstance(
                literal.parent, (nodes.reference, nodes.title, pending_xref)
            ):
                target = text.removesuffix("()")
                reference = pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=target,
                    refexplicit=True,
                    refwarn=False,
                )
                reference["refdoc"] = self.env.docname
                literal.replace_self(reference)
                reference += literal


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(NamesToReferences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
