"""Outcomes of limits as a JUnit file, which systems for continuous integration show."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from vtcav.results.limits import LimitOutcome
from vtcav.results.words import clear


def junit_xml(outcomes: Sequence[LimitOutcome]) -> str:
    """Return a JUnit file: a test case for each limit and class.

    A broken limit is a failure; one that cannot be told is skipped, or a failure where it is
    strict.
    """
    failed = sum(each.failed for each in outcomes)
    skipped = sum(each.state == "cannot tell" and not each.failed for each in outcomes)
    counts = {"tests": str(len(outcomes)), "failures": str(failed), "skipped": str(skipped)}
    suite = ElementTree.Element("testsuite", {"name": "vtcav limits", **counts})
    for each in outcomes:
        name = f"{clear(each.concept)}: {each.quantity} at most {each.most:g}"
        about = {"classname": clear(each.class_name), "name": name}
        case = ElementTree.SubElement(suite, "testcase", about)
        if each.failed or each.state == "cannot tell":
            kind = "failure" if each.failed else "skipped"
            ElementTree.SubElement(case, kind, {"message": clear(each.sentence)})
    suites = ElementTree.Element("testsuites", counts)
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
