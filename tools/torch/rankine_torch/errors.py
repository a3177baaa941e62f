"""The one error that users see: a line that names the thing and the fix."""


class InputError(Exception):
    """What a file, a folder or a flag is wrong about. The message is one line and ends without a full stop."""
