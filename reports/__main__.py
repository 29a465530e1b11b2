"""`python -m scorescope.reports` is the `scorescope` command."""

from scorescope.reports.cli import main

if __name__ == "__main__":
    main()
