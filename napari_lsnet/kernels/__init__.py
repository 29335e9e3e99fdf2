"""The room *Analyse kernels*: what the kernels of a network are, as layers, and what they do on the user's image."""
