"""Errors for users to read. The command line shows them as one line, without a traceback."""

from __future__ import annotations


class VideodpoError(Exception):
    """Base class of the errors for users. The message says what is wrong, what is allowed and what to do."""

    exit_code = 1


class InputError(VideodpoError, ValueError):
    """An argument, an option or a file cannot be used."""


class ConfigError(InputError):
    """The configuration is wrong; the message names the key, the value and what is allowed."""


class RunError(VideodpoError, RuntimeError):
    """A run cannot continue; finished work is kept."""
