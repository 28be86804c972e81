"""GradCAMError: what this library raises where it was asked for something that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NO_VALUE: Any = object()


class GradCAMError(ValueError):
    """Says what was expected, what came, and what to do.

    A remedy names the argument at fault by the placeholder `{argument}`. Python reads `layer='conv'` there, and the
    command its own option, `--layer conv`, so that no message has to be rewritten.

    Attributes:
        problem: what is wrong, in whole sentences that name no argument.
        remedy: what to do, in a whole sentence, or "".
        argument: the argument of the public function that is at fault, or None.
    """

    def __init__(self, problem: str, remedy: str = "", *, argument: str | None = None, value: Any = _NO_VALUE) -> None:
        """Takes the parts of the message.

        Args:
            problem: what is wrong.
            remedy: what to do; of `{argument}` it has one at most.
            argument: the argument that the placeholder stands for.
            value: what to pass for that argument; by default only its name is said.
        """
        self.problem = problem
        self.remedy = remedy
        self.argument = argument
        self._value = value
        super().__init__(self.worded(_in_python))

    def worded(self, name: Callable[..., str]) -> str:
        """The message, with the argument as a caller names it.

        Args:
            name: gets the argument's name, and the value if there is one; gives what stands for the placeholder.
        """
        if self.argument is None or "{argument}" not in self.remedy:
            remedy = self.remedy
        else:
            values = () if self._value is _NO_VALUE else (self._value,)
            remedy = self.remedy.replace("{argument}", name(self.argument, *values), 1)
        return f"{self.problem} {remedy}".strip()

    def within(self, task: str) -> GradCAMError:
        """The same error as part of another task: "'m.keras' could not be loaded:" is put before its problem."""
        return type(self)(f"{task} {self.problem}", self.remedy, argument=self.argument, value=self._value)

    def alone(self) -> GradCAMError:
        """The same error without its cause and its traceback, whose frames would keep models and arrays in memory."""
        return type(self)(self.problem, self.remedy, argument=self.argument, value=self._value)

    def __reduce__(self) -> Any:
        """Keeps remedy, argument and value on the way to another process, where a message alone would arrive."""
        has_value = self._value is not _NO_VALUE
        return _again, (
            type(self),
            self.problem,
            self.remedy,
            self.argument,
            has_value,
            self._value if has_value else None,
        )


class AlreadyThereError(GradCAMError, FileExistsError):
    """A file is there that must not be replaced silently."""


class NotInstalledError(GradCAMError, ImportError):
    """A package that is needed is missing, cannot be loaded, is too old, or is not the one that Keras runs on."""


def _in_python(argument: str, *values: Any) -> str:
    return f"{argument}={repr(*values) if values else ''}"


def _again(
    kind: type[GradCAMError], problem: str, remedy: str, argument: str | None, has_value: bool, value: Any
) -> GradCAMError:
    return kind(problem, remedy, argument=argument, value=value if has_value else _NO_VALUE)
