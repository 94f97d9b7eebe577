"""Ask the service what nobody would ask: schemathesis on its OpenAPI, thousands of requests.

    PYTHONPATH=src python benchmarks/fuzz_service.py SHELF [--examples 900] [--seed 7]

Starts ``undersong serve SHELF`` as a process of its own. Every check of schemathesis is on; what
no schema can say stands in ``fuzz_service.toml``. The shelf should be of a run that hears audio,
else each upload is a 501, which counts as a failure. Ends with the exit code of schemathesis, or
with 1 if the service has died or logged a traceback.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = Path(__file__).resolve().with_suffix(".toml")
TOOL = Path(sys.executable).with_name("schemathesis")


def main() -> int:
    """Fuzz one shelf."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shelf", type=Path)
    parser.add_argument("--examples", type=int, default=900, help="of each operation")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    serve = [sys.executable, "-m", "undersong", "serve", str(given.shelf), "--port", "0", "--quiet"]
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as place:
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            assert server.stdout is not None
            line = server.stdout.readline()
            print(line.strip(), flush=True)
            address = line.split(": generation")[0].removeprefix("undersong at ")
            found = subprocess.run(
                [TOOL, "--config-file", CONFIG, "run", f"{address}/openapi.json", "--no-color"]
                + ["--seed", str(given.seed), "--max-examples", str(given.examples)]
                + ["--continue-on-failure", "--request-timeout", "120", "--workers", "3"],
                cwd=place,
            )
            alive = server.poll() is None
            server.terminate()
        log.seek(0)
        faults = log.read().count("Traceback")
    print(f"the service {'lived' if alive else 'died'}; {faults} tracebacks in its log")
    return found.returncode or int(not alive or faults > 0)


if __name__ == "__main__":
    sys.exit(main())
