r"""System: what is asked of the machine; no mathematics lives here.

May import `errors` only.

    files        files written whole or not at all
    tensorfile   tensors and a description in a safetensors file
    digest       what tells one model from another
    launch       the processes of one launch
    interrupts   Ctrl-C
    compiler     whether networks can be compiled
    packages     packages that are not always installed
"""
