"""Measuring the codec: quality, exactness and what it costs."""
