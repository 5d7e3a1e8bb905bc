r"""The command line: a thin layer over the public functions; a file for each group of commands."""
