"""Runs that version 0.1.0 left before its modules moved into rooms: they load, and the unfinished one goes on."""
