import pytest

from undersong.importers.music.credits import PathNames, credits_of, path_names
from undersong.importers.music.tags import Tags

A, B, C = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "abc")
VARIOUS = "89ad4ac3-39f7-470e-963a-56509c546377"


@pytest.mark.parametrize(
    ("tags", "credits"),
    [
        ({"artist": ("Ann",), "artist_ids": (A,)}, [("Ann", A)]),
        ({"artist": ("Ann feat. Bob",)}, [("Ann", ""), ("Bob", "")]),
        ({"artist": ("Ann (feat. Bob)",)}, [("Ann", ""), ("Bob", "")]),
        ({"artist": ("Ann ft Bob; Cy",)}, [("Ann", ""), ("Bob", ""), ("Cy", "")]),
        ({"artist": ("Ann / Bob • Cy",)}, [("Ann", ""), ("Bob", ""), ("Cy", "")]),
        ({"artist": ("AC/DC",)}, [("AC/DC", "")]),
        ({"artist": ("Prince (NPG)",)}, [("Prince (NPG)", "")]),
        ({"artist": ("Ann", "Bob"), "artist_ids": (A, B)}, [("Ann", A), ("Bob", B)]),
        (
            {"artist": ("Ann meets Bob",), "artists": ("Ann", "Bob"), "artist_ids": (A, B)},
            [("Ann", A), ("Bob", B)],
        ),
        *(
            ({"artist": (f"Ann{x}Bob",), "artist_ids": (A, B)}, [("Ann", A), ("Bob", B)])
            for x in "/／、"
        ),
        (
            {"artist": ("Ann/Bob & Cy",), "artist_ids": (A, B)},
            [("Ann/Bob", A), ("Cy", B)],
        ),
        ({"artist": ("AC/DC",), "artist_ids": (A,)}, [("AC/DC", A)]),
        ({"artist": ("N/A",), "album_artist": "[none]"}, []),
        ({"artist": ("Earth, Wind & Fire",)}, [("Earth, Wind & Fire", "")]),
        ({"artist": ("Earth, Wind & Fire",), "artist_ids": (A,)}, [("Earth, Wind & Fire", A)]),
        ({"artist": ("Ann & Bob",), "artist_ids": (A, B)}, [("Ann", A), ("Bob", B)]),
        (
            {"artist": ("Ann, Bob & Cy",), "artist_ids": (A, B, C)},
            [("Ann", A), ("Bob", B), ("Cy", C)],
        ),
        (
            {"artist": ("Ann and the Bobs",), "album_artist": "Ann", "artist_ids": (A,)},
            [("Ann", A), ("the Bobs", "")],
        ),
        ({"artist": ("Ann feat. Bob",), "artist_ids": (A,)}, [("Ann", A), ("Bob", "")]),
        ({"artist": ("Simon & G",), "album_artist": "Simon & G"}, [("Simon & G", "")]),
        ({"artist": ("Ann", "Ann")}, [("Ann", "")]),
        ({"album_artist": "Ann", "artist_ids": (A,)}, [("Ann", "")]),
        ({"artist": ("Bob",), "album_artist": "Various Artists"}, [("Bob", "")]),
        ({"artist": ("Various Artists",), "artist_ids": (VARIOUS,)}, []),
        ({"artist": ("<unknown>",), "album_artist": "VA"}, []),
        ({}, []),
    ],
)
def test_a_credit_names_its_artists(tags, credits):
    assert [(x.name, x.id) for x in credits_of(Tags(**tags))] == credits


@pytest.mark.parametrize(
    ("path", "artist", "album", "title"),
    [
        ("Ann/First/01 One.mp3", "Ann", "First", "One"),
        ("Ann/First/CD 2/2-03 - Two.mp3", "Ann", "First", "Two"),
        ("Rock/Ann/First/a1_Three_four.mp3", "Ann", "First", "Three four"),
        ("Ann/One.mp3", "Ann", None, "One"),
        ("Ann/First/Ann - One.mp3", "Ann", "First", "One"),
        ("Ann/First/Bob - One.mp3", "Ann", "First", "Bob - One"),
        ("Various Artists/Best of/07. Ann - One.mp3", "Ann", "Best of", "One"),
        ("Various Artists/Best of/07.mp3", None, "Best of", "07"),
        ("Unknown Artist/Game/07 Boss.mp3", "Game", "Game", "Boss"),
        ("Unknown Artist/Unknown Album/07.mp3", None, "Unknown Album", "07"),
        ("<unknown>/07.mp3", None, None, "07"),
        ("Ann - One.mp3", "Ann", None, "One"),
        ("One.mp3", None, None, "One"),
        ("1979.mp3", None, None, "1979"),
        ("Ann/99 Balloons.mp3", "Ann", None, "Balloons"),
        ("Ann/ - .mp3", "Ann", None, "-"),
    ],
)
def test_a_path_names_what_the_tags_do_not(path, artist, album, title):
    assert path_names(path) == PathNames(artist, album, title)
