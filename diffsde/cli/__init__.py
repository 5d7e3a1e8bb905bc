r"""The command line: a thin layer over the public functions.

This folder may import every other folder. Nothing of torch is loaded before a command runs, so
the commands call the public functions by `diffsde.NAME` or `diffsde.FOLDER.NAME`, which load what
they need.

    app        the command `diffsde`: its commands, and its exit codes
    command    what all commands have in common: names in help texts, errors that speak of options
    wording    library messages in the words of the command line
    options    options that commands share
    picking    what options stand for: a model, solvers, problems
    outputs    where output goes, checked before anything is computed
    solving    several solves from one noise, whole or stopped
    pictures   the files that `sample` writes
    sampling   `gallery`, `sample`, `explore`
    judging    `evaluate`, `likelihood`, `work-precision`
    training   `train`
    listing    `solvers`
    report     what a command prints when it is done, or stopped
"""
