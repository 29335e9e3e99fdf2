"""From a volume to what a network sees, and back: normalisation, resampling, cropping; the same in training and prediction."""
