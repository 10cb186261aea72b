"""The report room: run folders, and the tables, charts and pages made from them.

It knows no algorithm: whatever metrics a run wrote under whatever names are what it shows.
"""

from hansa.report.folder import RunFolder

__all__ = ["RunFolder"]
