"""`python -m diffsde`, for launchers such as `accelerate launch -m diffsde` and torchrun."""

from diffsde.cli.app import main

if __name__ == "__main__":
    main()
