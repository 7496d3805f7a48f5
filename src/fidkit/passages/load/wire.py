"""What a worker and its parent send one another: lines of JSON there, frames back."""

from __future__ import annotations

import struct

FRAME = struct.Struct("<cIIII")
"""A letter, and the lengths of the JSON, the map, the boxes and the text behind it."""

READY, BEGUN, DOCUMENT, DONE, FAILED, NOT_OPENED = b"R", b"B", b"D", b"E", b"F", b"O"
"""`BEGUN`: a member of an archive or a mail is read from now on; if the process ends, it is to blame."""
