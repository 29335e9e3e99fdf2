"""The viewer side of napari-lsnet. Importing it loads neither Qt nor torch."""
