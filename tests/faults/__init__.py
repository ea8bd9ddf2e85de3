"""Everything that the world does wrong, through the real command: a clear message, a defined status, and
nothing lost.

Each fault, and the files whose tests prove what emt makes of it (`test_index` keeps the list true):

- command not found, not executable, a directory, empty: launch/test_status.py
- a command of 1 ms: launch/test_status.py
- a command that closes stderr: launch/test_surroundings.py launch/test_status.py
- unknown option, frequency 0, negative, nan, 1e9: launch/test_status.py faults/test_usage.py
- output folder missing, path exists: launch/test_status.py faults/test_outputs.py
- output folder unwritable, full disk: faults/test_outputs.py
- broken TOML, keys that may not stand there, negative intensity: faults/test_configuration.py
- emt.toml of another user: faults/test_configuration.py
- unknown location: faults/test_usage.py faults/test_configuration.py
- record truncated, empty, not JSON, newer, NaN, huge numbers: faults/test_records.py store/test_record.py
- record of 200 MB: faults/test_records.py
- a store with a half-written run: faults/test_records.py store/test_library.py
- sensor unreadable at start, stops, returns garbage, goes backwards: machines/test_faults.py
- clock set back during the run: faults/test_clock_and_work_elsewhere.py
- suspend in the middle: faults/test_clock_and_work_elsewhere.py
- emt killed by SIGKILL at any moment: faults/test_killed.py launch/test_signals.py
- SIGTERM from a batch system: faults/test_killed.py launch/test_signals.py
- 2,000 processes in the tree: tree/test_shapes.py
- PID reuse: tree/test_books.py store/test_folder.py
- descendants that outlive the root: tree/test_shapes.py launch/test_surroundings.py
- docker run, sbatch, ssh as the command: faults/test_clock_and_work_elsewhere.py

And what nobody had named:

- the command removes the store, the output folder or the temporary files: faults/test_outputs.py
- a limit on the size of files: faults/test_outputs.py
- no home, no current folder, no terminal, no locale, closed streams: faults/test_environment.py
- nonsense in the variables of batch systems and sudo: faults/test_environment.py
- a command line longer than a text of a record may be: faults/test_environment.py
- terminal escapes in names: faults/test_records.py
"""
