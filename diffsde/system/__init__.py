r"""System: files, processes and packages; there is no mathematics here.

This folder may import `errors` only.

    files        files written whole or not at all
    tensorfile   tensors and a description in one safetensors file
    digest       digests that identify tensors
    code         what a user's own class computes
    description  everything on which an object's numbers depend
    launch       the processes of one launch, their devices, and how they divide work
    interrupts   Ctrl-C, and a scheduler's SIGTERM
    captures     what a device was told, to be told again all at once
    clock        a clock that waits for a device
    threads      as many threads as there are free cores
    compiler     whether networks can be compiled
    argument_order  whether a function takes (x, t) or (t, x)
    wrapped      modules inside of wrappers, such as DataParallel
    parameters   where a module computes and how precisely
    packages     packages that may not be installed
    bars         progress bars
    tables       results that show themselves as tables
    one_line     short names of objects
"""
