"""Prediction: windows, streaming export, rescue from lack of memory, and what follows it."""
