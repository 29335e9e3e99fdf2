"""The widget *Manage models*: what is here, what can be had, and whether it is whole."""
