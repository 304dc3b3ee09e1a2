"""Measuring the codec: quality metrics."""
