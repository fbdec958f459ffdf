"""The command line: one file a verb, which parses, validates, makes one library call and prints.

The modules that define options import nothing heavier than typer, so that `supermask --help` is there at once; each
verb imports what it works with when it runs.
"""
