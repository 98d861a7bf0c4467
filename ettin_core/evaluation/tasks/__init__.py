"""Tasks as files: what a set of rows is (its kind), which fields hold what, how it is split and scored. No code is needed.

config.py   a task file: the kinds, and what each may say
find.py     the task of a name: the user's files, files in the folder of a kind, and the built-in files
rows.py     rows of a task under the names that its kind gives to fields
builtin/    the tasks that the package knows, as such files
"""
