"""`python -m diffsde`, for launchers: accelerate launch -m diffsde, torchrun -m diffsde."""

from diffsde.cli.app import main

if __name__ == "__main__":
    main()
