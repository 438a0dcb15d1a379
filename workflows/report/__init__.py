"""The report of a run: one page with a gallery, a 3D viewer, failures, timings and settings."""

from workflows.report.build import build_report

__all__ = ["build_report"]
