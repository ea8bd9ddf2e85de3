"""Everything that the world does wrong, through the real command: a clear message, a defined status, nothing lost.

Each fault, and the file whose tests prove what emt makes of it (`test_index` keeps the list true):

    command not found, not executable, a directory, empty    launch/test_status.py
    a command of 1 ms                                         launch/test_status.py
"""
