"""Metric values over time: how they travel, where they wait, and how they are read as one series."""
