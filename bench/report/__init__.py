"""``uigc report``: one HTML page that shows rate, quality and images, and needs no other file and no network."""

from uigc.bench.report.making import run

__all__ = ["run"]
