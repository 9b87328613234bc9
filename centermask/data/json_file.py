# SPDX-License-Identifier: Apache-2.0
"""A JSON file that a user named: its content, or one sentence that says what is wrong with the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from centermask_runtime.errors import DataError


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file. `what` names its kind in the sentence of a DataError: "annotation file"."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"There is no {what} {path}.") from None
    except OSError as error:
        raise DataError(f"The {what} {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise DataError(f"The {what} {path} is not JSON: {error}.") from error
