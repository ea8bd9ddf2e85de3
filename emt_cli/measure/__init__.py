"""Measuring a command: launching it, following its tree, sampling, and the raw record at the end."""
