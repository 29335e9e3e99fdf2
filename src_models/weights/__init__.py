"""Weights as safetensors with a card: what they are for, what they were trained on, and their hash."""
