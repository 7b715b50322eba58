from .events import EVENTS, emit, listening
from .quiet import quiet_console

__all__ = ["EVENTS", "emit", "listening", "quiet_console"]
