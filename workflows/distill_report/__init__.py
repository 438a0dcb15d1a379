"""The report of a distillation."""

from workflows.distill_report.build import build_distill_report

__all__ = ["build_distill_report"]
