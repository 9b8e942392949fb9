"""The command line: `fedpeft run`, `validate`, `resume`, `ls`, `show`, `report`, `export`, `new` and `doctor`.

One command a file. Each loads what it needs when it is called, so that `fedpeft --help` is quick and brings in no
torch. `fedpeft.cli.main` puts them together and turns errors into messages and exit codes.
"""
