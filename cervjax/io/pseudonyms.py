"""Names for people that tell nothing about them, the same in every run.

A keyed hash: without the key nobody can try names and dates of birth until one fits.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_DIGITS = 8


def read_key(path: Path | None = None) -> bytes:
    """The key, made and kept for its owner only where there is none yet.

    Args:
        path: the file; by default ``cervjax/pseudonyms.key`` in the user's data folder.

    Raises:
        ValueError: the file is too short to be a key, or cannot be written.
    """
    user = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    path = path or user / "cervjax" / "pseudonyms.key"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
                stream.write(secrets.token_hex(32).encode())
        except OSError as error:
            raise ValueError(
                f"cannot write the key of pseudonyms, {path} ({error.strerror}); name "
                "another file with --pseudonym-key"
            ) from error
    key = path.read_bytes().strip()
    if len(key) < 16:
        raise ValueError(
            f"{path}: a key needs 16 bytes or more, got {len(key)}; give another file "
            "with --pseudonym-key, or delete this one"
        )
    return key


def pseudonym(key: bytes, identity: str) -> str:
    """8 hexadecimal digits for a person or a study."""
    return hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def hashed_uid(key: bytes, uid: str) -> str:
    """A UID of DICOM in place of another one, always the same for one key."""
    digest = hmac.new(key, f"uid {uid}".encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
