"""Everything about a trained network in one HTML file: a file for each group of sections, and one that joins them."""

from cutaway.inspect.report.document import Report, Section, render_report, write_report
from cutaway.inspect.report.events import write_events
from cutaway.inspect.report.gathering import SECTIONS, report_of_bundle, report_on
from cutaway.inspect.report.subject import Other

__all__ = [
    "SECTIONS",
    "Other",
    "Report",
    "Section",
    "render_report",
    "report_of_bundle",
    "report_on",
    "write_events",
    "write_report",
]
