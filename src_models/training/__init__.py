"""Training: cases and folds, the plan, augmentation, losses, the loop and its checkpoints."""
