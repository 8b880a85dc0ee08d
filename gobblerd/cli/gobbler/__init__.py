"""`gobbler`, the command line for people and job scripts (spec/client.md, "Command line").

A thin layer over `gobblerd.client`: each module here holds a family of subcommands, and imports what they
need when they are asked for, so that `gobbler --help` is quick.
"""
