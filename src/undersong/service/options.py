"""Settings of the service, and the limits that hold for every request."""

from dataclasses import dataclass
from pathlib import Path

TEXT = 500  # characters of an id, a name or a word
MOST = 1000  # answers of one request
QUERY = 8192  # bytes of path and query together
HEAD = 32_768  # bytes of a request before its body
BODY = 65_536  # bytes of a form
QUESTION = 1_000_000  # bytes of a question in JSON
UPLOAD = 20_000_000  # bytes of an audio file
HEAD_SECONDS = 10.0  # until the head of a request is there
BODY_SECONDS = 60.0  # until its body is
LINGER_SECONDS = 2.0  # that a client which sends too much has to read why it is refused
IDLE_SECONDS = 10  # until an idle connection is closed
UNREAD_SECONDS = 60.0  # in which a client must read UNREAD bytes of what waits for it
UNREAD = 32_768
STOP_SECONDS = 15  # that running requests have when the service stops
LOOK_SECONDS = 0.2  # between two looks at the pointer of the shelf
CONNECTIONS = 1000  # at a time; of more, the one that waited for its client for longest is closed
OF_ADDRESS = 100  # of these, those of one address; likewise
HOSTS = 1000  # values of the header Host whose verdict is remembered
ADDRESSES = 10_000  # whose rates are counted; of more, those not seen for longest are forgotten
RATE = 20.0  # requests a second of one address, unless told otherwise
PLAYER_RATE = 200.0  # the same where a player asks for covers and sound, too
BURST = 5.0  # seconds' worth of requests that an address may ask for at once
UPLOADS = 2  # files received and heard at a time


@dataclass(frozen=True)
class ServiceSettings:
    """What one service is asked to be.

    Parameters
    ----------
    token : that clients must show; None: nobody needs one
    rate : requests a second that one address may send, on average; 0: any number
    media : catalogue whose audio files may be played; None: no file leaves this machine
    quiet : whether to log events alone, and no line a request
    hosts : names and addresses that the service goes by, beside loopback; None: by any
    origins : whose pages in browsers may read replies, send files and play media
    upstream : media server that answers requests of OpenSubsonic which undersong does not
    """

    token: str | None = None
    rate: float = 0.0
    media: Path | None = None
    quiet: bool = False
    hosts: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()
    upstream: str | None = None
