"""The report: one HTML file with the findings, how far to trust them, and how they were made.

It needs no network and no server: pictures, maps, styles and scripts are inside, and its content
security policy forbids everything else. All text from a user is shown as text.
"""

from vtcav.report.folder import write_report
from vtcav.report.page import build_report
from vtcav.report.ranking import write_ranking

__all__ = ["build_report", "write_ranking", "write_report"]
