"""A file for each board. ``docs/boards.md`` says how to add one."""
