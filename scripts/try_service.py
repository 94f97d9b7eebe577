"""Start the installed service on a run and request its page, its files and an answer."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

ADDRESSES = ("/ready", "/", "/app.js", "/api/items/artist/a03/similar?k=3", "/openapi.json")


def main(run: str) -> None:
    """Fail with a traceback where anything is missing."""
    program = Path(sys.executable).with_name("undersong")
    command = [program, "serve", run, "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            print(line, end="")
            home = re.findall(r"http://[\d.]+:\d+", line)[0]
            for address in ADDRESSES:
                with urlopen(home + address, timeout=20) as reply:
                    print(f"{reply.status} {len(reply.read()):>7,} bytes  {address}")
        finally:
            process.terminate()
    if process.returncode != 0:
        sys.exit(f"the service ended with {process.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
