"""How long a passphrase would withstand a thief who has the drive (zxcvbn does the guessing)."""

from __future__ import annotations

from typing import Final

from flashback.core.secret import Secret

ENOUGH: Final = 3
"""zxcvbn's score from 0 to 4; 3 is "safely unguessable: moderate protection from offline slow-hash scenario"."""
LOOKED_AT: Final = 72
"""zxcvbn's time grows with the length; what comes after this many characters only makes it stronger."""


def weakness(passphrase: Secret, *, about: tuple[str, ...] = ()) -> str | None:
    """Why the passphrase is weak, in a sentence, or `None`. `about`: words a thief tries first."""
    text = passphrase.reveal().decode("utf-8", "replace")
    if not text.strip():
        return "it is blank"
    from zxcvbn import zxcvbn

    found = zxcvbn(text[:LOOKED_AT], user_inputs=list(about))
    if found["score"] >= ENOUGH or len(text) > LOOKED_AT:
        return None
    time = found["crack_times_display"]["offline_slow_hashing_1e4_per_second"]
    warning = str(found["feedback"]["warning"]).rstrip(".")
    guess = f"somebody who has the drive might guess it within {time}"
    return f"{guess}: {warning[0].lower()}{warning[1:]}" if warning else guess
