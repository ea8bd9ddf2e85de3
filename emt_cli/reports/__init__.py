"""A finished run as people and programs read it. Readers of records only: nothing here measures."""
