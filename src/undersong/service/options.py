"""Settings of the service, and the limits that hold for every request."""

from dataclasses import dataclass
from pathlib import Path

TEXT = 500  # characters of an id, a name or a word
MOST = 1000  # answers of one request
QUERY = 8192  # bytes of path and query together
HEAD = 32_768  # bytes of a request before its body
BODY = 65_536  # bytes of a form
UPLOAD = 20_000_000  # bytes of an audio file
HEAD_SECONDS = 10.0  # until the head of a request is there
BODY_SECONDS = 60.0  # until its body is
LINGER_SECONDS = 2.0  # that a client which sends too much has to read why it is refused
IDLE_SECONDS = 10  # until an idle connection is closed
STOP_SECONDS = 15  # that running requests have when the service stops
LOOK_SECONDS = 0.2  # between two looks at the pointer of the shelf
CONNECTIONS = 1000  # at a time; more are answered 503
ADDRESSES = 10_000  # whose rates are counted; of more, those not seen for longest are forgotten
RATE = 20.0  # requests a second of one address, unless told otherwise
BURST = 5.0  # seconds' worth of requests that an address may ask for at once
UPLOADS = 2  # files heard at a time


@dataclass(frozen=True)
class ServiceSettings:
    """What one service is asked to be.

    Parameters
    ----------
    token : that clients must show; None: nobody needs one
    rate : requests a second that one address may send, on average; 0: any number
    media : catalogue whose audio files may be played; None: no file leaves this machine
    quiet : whether to log events alone, and no line a request
    """

    token: str | None = None
    rate: float = 0.0
    media: Path | None = None
    quiet: bool = False
