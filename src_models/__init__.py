"""Headless science of napari-lsnet: the level set equation, files and records. Importing it loads nothing heavy."""
