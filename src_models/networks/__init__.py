"""Segmentation networks, one architecture a file; `zoo` names them."""
