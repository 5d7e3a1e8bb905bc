r"""The command line: a thin layer over the public functions.

This folder may import every other folder. Nothing of torch is loaded before a command runs, so
the commands call the public functions by `diffsde.NAME` or `diffsde.FOLDER.NAME`, which load what
they need.

    app        the command `diffsde`: its commands, and its exit codes
    options    options that commands share, and what they stand for
    sampling   `gallery`, `sample`, `explore`
    judging    `evaluate`, `likelihood`, `work-precision`
    training   `train`
    listing    `solvers`
    report     what a command prints when it is done
"""
