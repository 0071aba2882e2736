r"""Patterns of a policy's rules: regular expressions as RE2 has them.

``re`` can take longer than the universe on a short text, and a policy may come from elsewhere. RE2 follows every state
at once: its time is the length of the text times that of the pattern, whatever they are. Nothing refers back, nothing
looks ahead, ``$`` is the very end, and ``\d \w \s \b`` mean ASCII (https://github.com/google/re2/wiki/Syntax).
"""

from __future__ import annotations

from vhdtool.errors import InputError, MissingSupportError, UsageError

LONGEST_PATTERN = 256
LONGEST_TEXT = 16384
MOST_MEMORY = 1 << 20
"""Bytes that one compiled pattern may take."""


class Pattern:
    """A compiled pattern.

    Raises :class:`UsageError` ``pattern`` for one that is not understood, :class:`MissingSupportError` ``re2-missing``.
    """

    def __init__(self, source: str) -> None:
        if len(source) > LONGEST_PATTERN:
            raise _fault(
                source[:LONGEST_PATTERN], f"is longer than {LONGEST_PATTERN} characters", hint="Write two rules."
            )
        try:
            import re2  # noqa: PLC0415  # only for policies with patterns
        except ImportError as error:
            raise MissingSupportError(
                "re2-missing", "patterns need the package google-re2", hint="pip install google-re2"
            ) from error
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MOST_MEMORY
        self.source = source
        try:
            self._compiled = re2.compile(source, options)
        except (re2.error, UnicodeEncodeError) as error:
            raise _fault(source, f"is not understood: {_reason(error)}") from error

    def found_in(self, text: str) -> bool:
        """Whether the pattern fits anywhere in ``text``.

        Raises :class:`InputError` ``text-too-long``.
        """
        if len(text) > LONGEST_TEXT:
            raise InputError(
                "text-too-long",
                "a text of the document is too long for a pattern",
                expected=f"at most {LONGEST_TEXT} characters",
                found=f"{len(text)}",
                hint="Let the rule's path name a part of the document that is short.",
            )
        whole = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text for RE2
        return self._compiled.search(whole) is not None


def _reason(error: Exception) -> str:
    """What RE2 says, which it says in bytes."""
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _fault(source: str, what: str, *, hint: str | None = None) -> UsageError:
    return UsageError("pattern", f"the pattern {what}", found=repr(source), hint=hint)
