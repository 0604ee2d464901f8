"""The command line: each file parses one verb, calls one function and prints what it returns."""
