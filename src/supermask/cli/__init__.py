"""The command line: one file a verb, which parses, validates, makes one library call and prints.

`supermask --help` imports no verb. A verb's module is imported when it is chosen, and what it works with when it runs.
"""
