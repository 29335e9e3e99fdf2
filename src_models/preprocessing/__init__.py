"""From a volume to what a network sees, and back; the same in training and in prediction."""
