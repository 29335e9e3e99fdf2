"""Segment with a trained network."""
