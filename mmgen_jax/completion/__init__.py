"""Completion of command lines in shells: commands, their flags, settings, values and files."""
