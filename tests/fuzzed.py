"""Small exports of every source, ways to damage them, and what comes of the import."""

import io
import json
import shutil
import sqlite3
import tarfile

import numpy as np
import polars as pl
from click.testing import CliRunner

import test_import_lastfm as lastfm
import test_import_listenbrainz as listenbrainz
import test_import_musicbrainz as musicbrainz
import test_import_owned as owned
import test_import_sets as sets
import test_import_spotify as spotify
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli
from undersong.io.tensors import write_tensors


def originals(folder):
    """One export a source: command, name of the file, its bytes."""
    folder.mkdir()
    made = [("lastfm", name, text.encode()) for name, text in lastfm.SHAPES.items()]
    one = listenbrainz.listen("pia", "Ann", "One", sent={"artist_mbids": [listenbrainz.ANN]})
    data = listenbrainz.lines(one, listenbrainz.listen("quo", "Bob", "Two"), one)
    made.append(("listenbrainz", "1.listens", data))
    files = {"user.json": b'{"username": "pia"}', "listens/2026/1.jsonl": data}
    made.append(packed("listenbrainz", listenbrainz.export(folder / "my.zip", files)))
    made.append(
        packed("listenbrainz", listenbrainz.dump(folder / "d.tar.zst", {"listens/1.listens": data}))
    )
    streams = json.dumps([spotify.stream("One"), spotify.stream("Two", seconds=3)])
    made.append(("spotify", "Streaming_History_Audio_1.json", streams.encode()))
    artists = musicbrainz.encoded(musicbrainz.FULL, musicbrainz.artist(musicbrainz.BOB, "Bob"))
    made.append(packed("musicbrainz", musicbrainz.dump(folder / "artist.tar.xz", artists)))
    made.append(("musicbrainz", "artist", b"\n".join(artists)))
    made.append(packed("hetrec", sets.hetrec(folder / "hetrec.zip")))
    for command, make in (("olga", sets.olga), ("deezer", sets.deezer)):
        path = folder / f"{command}.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(make(folder / command), arcname=command)
        made.append(packed(command, path))
    listen = f"1200000000\t{sets.ANN}\t\t{sets.ONE}\n"
    made.append(("mlhd", "u1.txt", listen.encode() * 5))
    for command, schema in (("navidrome", owned.NAVIDROME), ("beets", owned.BEETS)):
        path = folder / f"{command}.db"
        opened = sqlite3.connect(path)
        opened.executescript(schema)
        if command == "beets":
            owned.insert(
                opened, "items", id=1, path=b"/1.flac", title="One", artist="Ann", year=1994
            )
        else:
            owned.song(opened, 1, "One", "Ann")
            owned.insert(opened, "artist", id="Ann", name="Ann")
        opened.commit()
        opened.close()
        made.append(packed(command, path))
    table = io.BytesIO()
    rows = [{"id": f"{x}", "name": f"Näme {x}", "year": 1900 + x} for x in range(7)]
    pl.DataFrame(rows).write_csv(table)
    made.append(("tables", "artists.csv", table.getvalue()))
    table = io.BytesIO()
    pl.DataFrame(rows).write_parquet(table)
    made.append(("tables", "artists.parquet", table.getvalue()))
    for name, write in (("x.npy", np.save), ("x.npz", np.savez_compressed)):
        write(folder / name, np.arange(21, dtype=np.float32).reshape(7, 3))
        made.append(packed("tables", folder / name))
    write_tensors(folder / "x.safetensors", {"x": np.ones((7, 3), np.float32)}, version=1, about={})
    made.append(packed("tables", folder / "x.safetensors"))
    return made


def packed(command, path):
    return command, path.name, path.read_bytes()


def damage(whole, generator):
    """Cut, change, repeat or remove some bytes, up to four times."""
    data = bytearray(whole)
    for _ in range(generator.integers(1, 5)):
        if not data:
            break
        place = int(generator.integers(len(data)))
        length = int(generator.integers(1, 40))
        kind = generator.integers(6)
        if kind == 0:
            data[place : place + length] = generator.bytes(length)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length] * int(generator.integers(1, 200))
        elif kind == 3:
            data[place] ^= 1 << int(generator.integers(8))
        elif kind == 4:
            data[place:place] = bytes(
                generator.choice(list(b'"{}[],:;\\\t\n\x00\xff0-9e')) for _ in "abc"
            )
        else:
            del data[place:]
    return bytes(data)


def outcome(command, name, data, folder):
    """Import a damaged file: "catalogue", "refused", or the error that is our bug."""
    folder.mkdir()
    path, home = folder / name, folder / "home"
    path.write_bytes(data)
    if command == "tables":
        path, sheet = folder / "mapping.toml", folder / "sheet.csv"
        sheet.write_text("id,name\n" + "".join(f"{x},N\n" for x in range(7)))
        artists = name if name.startswith("artists") else sheet.name
        features = f'[[features]]\nname = "x"\nfile = "{name}"\nids = "{sheet.name}"\n'
        text = f'[artists]\nfile = "{artists}"\nid = "id"\nname = "name"\n'
        path.write_text(text + features * (artists != name))
    result = CliRunner().invoke(cli, ["import", command, str(path), str(home)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    strange = {x.name for x in folder.iterdir()} - {name, path.name, "home", "sheet.csv"}
    assert strange == set(), f"{command} wrote {strange}"
    if result.exit_code == 0:
        faults = check_catalogue(home)
        assert faults == (), f"{command}: {faults}"
    else:
        assert result.output.startswith("Error: "), result.output
        assert not (home / "catalogue.json").exists()
    shutil.rmtree(folder)
    return "refused" if result.exit_code else "catalogue"
