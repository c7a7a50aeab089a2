"""The parts of a report that tell what proves that it was this code: APK, idsig, verity root, signer; and all files."""

from avf.report.facts import ApkProof, FileDigest, VmReport
from avf.report.html import Child, Html, element, join
from avf.report.sections import has_started_payload, section
from avf.report.words import day, size

_GUEST = (
    "Independently of this, the guest's agent read the APK through dm-verity, by the root that the host named, and"
    " checked the signature or knew the root before it started the payload."
)
_NO_GUEST = "The guest has not started the payload: whether it has checked this chain is not known."


def chain_section(report: VmReport) -> Html | None:
    """Nothing for a VM without APKs."""
    if not report.apks:
        return None
    note = _GUEST if has_started_payload(report) else _NO_GUEST
    return section(
        "What proves it",
        element(
            "p", f"Checked on the host when this report was made, every byte. {note}", class_="note"
        ),
        *(_chain(proof) for proof in report.apks),
    )


def _chain(proof: ApkProof) -> Html:
    """Four links; those behind the one that failed are not known."""
    broken = proof.problem != ""
    title = None if proof.file.label == "microdroid-apk" else element("h3", proof.file.label)
    changed = None if proof.unchanged else _remark("The files have changed since the VM was made.")
    links = element(
        "ol",
        _apk(proof),
        _link(
            "idsig",
            proof.root_hash is not None,
            broken,
            _path(proof.idsig.path) if proof.idsig else None,
            "is this APK's, block by block" if proof.root_hash is not None else None,
        ),
        _link("Verity root", proof.root_hash is not None, broken, _digest(proof.root_hash)),
        _signer(proof, broken),
        class_="chain",
    )
    return join(title, changed, _remark(proof.problem) if broken else None, links)


def _remark(text: str) -> Html:
    return element("div", element("p", text), class_="verdict")


def _apk(proof: ApkProof) -> Html:
    version = "" if proof.version is None else f" version {proof.version}"
    return _link(
        "APK",
        proof.scheme is not None,
        proof.problem != "",
        element("p", element("b", f"{proof.package}{version}")) if proof.package else None,
        _path(proof.file.path),
        f"{size(proof.file.size)}, signature scheme {proof.scheme}" if proof.scheme else None,
    )


def _signer(proof: ApkProof, broken: bool) -> Html:
    certificate, former = proof.certificate, len(proof.lineage)
    if certificate is None:
        return _link("Signer", False, broken)
    return _link(
        "Signer",
        True,
        broken,
        element("p", element("b", certificate.subject)) if certificate.subject else None,
        f"signed with {proof.algorithm}" if proof.algorithm else None,
        f"valid {day(certificate.not_before)} to {day(certificate.not_after)}",
        f"follows {former} former certificate{'s' * (former > 1)}" if former else None,
        _digest(certificate.sha256),
    )


def _link(title: str, proved: bool, broken: bool, *children: Child) -> Html:
    """A link of the chain, with a mark if it is proved, or if it is where the chain broke."""
    if proved:
        mark: Html | None = element("span", "proved", class_="mark good")
    else:
        mark = element("span", "not proved", class_="mark bad") if broken else None
    body = (
        child if isinstance(child, Html) else element("p", child) for child in children if child
    )
    return element("li", element("h3", title, mark), *body, class_=None if proved else "unknown")


def _path(path: str) -> Html:
    return element("p", element("code", path or "in memory"))


def _digest(text: str | None) -> Html | None:
    return None if text is None else element("p", text, class_="digest")


def files_section(report: VmReport) -> Html | None:
    if not report.files:
        return None
    head = element(
        "tr",
        element("th", "Part"),
        element("th", "File"),
        element("th", "Size", class_="number"),
        element("th", "SHA-256"),
    )
    return section(
        "What it was made of",
        element("table", head, *(_file(found) for found in report.files)),
    )


def _file(found: FileDigest) -> Html:
    file = found.file
    place = "" if file.disk is None else f"disk {file.disk}"
    return element(
        "tr",
        element("td", file.label, element("div", place, class_="note") if place else None),
        element("td", element("code", file.path) if file.path else "in memory"),
        element("td", size(file.size), class_="number"),
        element(
            "td",
            element("span", found.sha256, class_="digest") if found.sha256 else None,
            element("div", found.remark, class_="note") if found.remark else None,
        ),
    )
