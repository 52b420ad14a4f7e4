"""``python -m medgan``: the program where no ``medgan`` script is on the path, as in a job's own Python."""

from medgan.cli import main

if __name__ == "__main__":
    main()
