"""mmrec-prepare movielens, from archives in the published forms, on a server of this machine."""

import io
import json
import zipfile

import pyarrow.parquet as pq
import pytest
from support.web import Site, picture

# Users 1 and 22 rated films 1, 10 and 2; 22 rated film 2 twice. In no order, as in the real files.
RATINGS = [
    ("22", "2", "3", 881250949),
    ("1", "10", "5", 874965758),
    ("22", "1", "1", 891717742),
    ("1", "2", "4", 876893171),
    ("22", "10", "2", 878887116),
    ("1", "1", "5", 875071561),
]
GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
]


def flags(*genres):
    return "|".join(str(int(genre in genres)) for genre in GENRES)


def archive(folder, members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as files:
        for name, content in members.items():
            files.writestr(f"{folder}/{name}", content)
    return file.getvalue()


def ml_100k():
    page = "http://us.imdb.com/M/title-exact"
    films = (
        f"1|Toy Story (1995)|01-Jan-1995||{page}?x|{flags('Animation', 'Comedy')}\n"
        f"2|Misérables, Les (1995)|01-Jan-1995||{page}?y|{flags('Drama', 'Musical')}\n"
        f"10|unknown||||{flags('unknown')}\n"
    )
    return archive(
        "ml-100k",
        {
            "README": "See the licence.",
            "u.data": "".join("\t".join(map(str, row)) + "\n" for row in RATINGS),
            "u.item": films.encode("latin-1"),
            "u.genre": "".join(f"{genre}|{n}\n" for n, genre in enumerate(GENRES)) + "\n",
        },
    )


def ml_1m():
    films = (
        "1::Toy Story (1995)::Animation|Comedy\n"
        "2::Misérables, Les (1995)::Drama|Musical\n"
        "10::2001: A Space Odyssey (1968)::Sci-Fi\n"
    )
    return archive(
        "ml-1m",
        {
            "ratings.dat": "".join("::".join(map(str, row)) + "\n" for row in RATINGS),
            "movies.dat": films.encode("latin-1"),
        },
    )


def ml_csv(name):
    """The newer form, with the line ends and quotes of the real files."""
    ratings = [f"{user},{film},{rating}.5,{time}" for user, film, rating, time in RATINGS]
    films = [
        "movieId,title,genres",
        '1,"Misérables, Les (1995)",Drama|Musical',
        '2,"""Great Performances"" Cats (1998)",Musical',
        "10,Death Note: Desu nôto (2006–2007),(no genres listed)",
        "11,Nobody's Film (2019),Comedy",
    ]
    links = ["movieId,imdbId,tmdbId", "2,0173052,", "1,0113828,4415", "10,0877057,419787"]

    def text(lines):
        return "".join(f"{line}\r\n" for line in lines)

    return archive(
        name,
        {
            "links.csv": text(links),
            "movies.csv": text(films),
            "ratings.csv": text(["userId,movieId,rating,timestamp", *ratings]),
            "tags.csv": text(["userId,movieId,tag,timestamp", "1,1,a tag,1"]),
        },
    )


ARCHIVES = {
    "ml-100k": ml_100k(),
    "ml-1m": ml_1m(),
    "ml-25m": ml_csv("ml-25m"),
    "ml-32m": ml_csv("ml-32m"),
}


@pytest.fixture
def site():
    with Site() as site:
        for name, content in ARCHIVES.items():
            site.put(f"/{name}.zip", content, "application/zip")
        yield site


@pytest.fixture
def movielens(mmrec, site, tmp_path, monkeypatch):
    """Prepare a release; gives the outcome."""
    monkeypatch.setenv("MMREC_MOVIELENS_URL", site.url)
    monkeypatch.setenv("MMREC_DOWNLOADS", str(tmp_path / "downloads"))

    def prepare(dataset, *arguments):
        # With two users and three films no core is large enough.
        return mmrec(f"prepare movielens --dataset {dataset} --k-core 1 --wait 0", *arguments)

    return prepare


@pytest.fixture
def prepared(movielens, tmp_path):
    """The same where it must succeed; gives items, log and description."""

    def prepare(dataset, *arguments):
        outcome = movielens(dataset, *arguments)
        assert outcome.code == 0, outcome.err
        folder = tmp_path / "data" / dataset
        items, log = (
            pq.read_table(folder / f"{name}.parquet").to_pylist()
            for name in ("items", "interactions")
        )
        return items, log, json.loads((folder / "dataset.json").read_text())

    return prepare


@pytest.fixture
def refused(movielens):
    def prepare(dataset, *arguments):
        outcome = movielens(dataset, *arguments)
        assert outcome.code == 1, outcome
        return outcome.error

    return prepare


OF_100K = [
    ("1", "Toy Story (1995). Animation Comedy", "Toy Story (1995)", 1995, ["Animation", "Comedy"]),
    ("10", "unknown", "unknown", None, None),
    (
        "2",
        "Misérables, Les (1995). Drama Musical",
        "Misérables, Les (1995)",
        1995,
        ["Drama", "Musical"],
    ),
]
OF_1M = [
    OF_100K[0],
    (
        "10",
        "2001: A Space Odyssey (1968). Sci-Fi",
        "2001: A Space Odyssey (1968)",
        1968,
        ["Sci-Fi"],
    ),
    OF_100K[2],
]
OF_CSV = [
    (
        "1",
        "Misérables, Les (1995). Drama Musical",
        "Misérables, Les (1995)",
        1995,
        ["Drama", "Musical"],
    ),
    ("10", *["Death Note: Desu nôto (2006–2007)"] * 2, 2006, None),
    (
        "2",
        '"Great Performances" Cats (1998). Musical',
        '"Great Performances" Cats (1998)',
        1998,
        ["Musical"],
    ),
]
FILMS = {"ml-100k": OF_100K, "ml-1m": OF_1M, "ml-25m": OF_CSV, "ml-32m": OF_CSV}


@pytest.mark.parametrize("release", FILMS)
def test_each_release_as_it_is_published(prepared, site, release):
    items, log, described = prepared(release)
    columns = ("item_id", "text", "title", "year", "genres")
    assert [tuple(item[name] for name in columns) for item in items] == FILMS[release]
    half = 0.5 if release in ("ml-25m", "ml-32m") else 0
    assert [tuple(row.values())[:4] for row in log] == [
        ("1", "1", 875071561, 5 + half),
        ("1", "10", 874965758, 5 + half),
        ("1", "2", 876893171, 4 + half),
        ("22", "1", 891717742, 1 + half),
        ("22", "10", 878887116, 2 + half),
        ("22", "2", 881250949, 3 + half),
    ]
    # Of three interactions one is for validation and one for test.
    splits = sorted((row["user_id"], row["split"]) for row in log)
    assert splits == [(u, s) for u in ("1", "22") for s in ("test", "train", "validation")]
    assert described["source"]["kind"] == "movielens"
    assert described["source"]["origin"]["title"] == "MovieLens"
    assert "Harper" in described["source"]["origin"]["citation"]
    assert [request.path for request in site.requests] == [f"/{release}.zip"]


def test_numbers_at_imdb_and_tmdb_stay_as_they_are_written(prepared):
    items, _, _ = prepared("ml-32m")
    assert [(item["imdb_id"], item["tmdb_id"]) for item in items] == [
        ("0113828", "4415"),
        ("0877057", "419787"),
        ("0173052", None),
    ]


def test_what_was_fetched_is_not_asked_for_again(prepared, site):
    first = prepared("ml-1m")
    site.forget()
    assert prepared("ml-1m")[:2] == first[:2]
    assert site.requests == []


def test_a_release_under_another_name(prepared, refused, site):
    _, _, described = prepared("films", "--release", "ml-100k")
    assert described["settings"]["release"] == "ml-100k"
    assert [request.path for request in site.requests] == ["/ml-100k.zip"]
    error = refused("ml-10m")
    assert "unknown release of MovieLens 'ml-10m'" in error
    assert "known: ml-100k, ml-1m, ml-25m, ml-32m" in error
    assert "--release" in error


def test_ratings_below_and_the_core(movielens, refused, tmp_path):
    outcome = movielens("ml-100k", "--min-rating", "4")
    assert outcome.code == 0, outcome.err
    assert "rated below 4: 3" in outcome.err
    log = pq.read_table(tmp_path / "data/ml-100k/interactions.parquet")
    assert log["user_id"].to_pylist() == ["1", "1", "1"]
    assert "outside the 5-core" in refused("ml-100k", "--k-core", "5", "--overwrite")


def test_pairs_rated_twice_count_once(prepared, site):
    twice = archive(
        "ml-1m", {"ratings.dat": "1::2::3::50\n1::2::5::40\n", "movies.dat": "2::A::B\n"}
    )
    site.put("/ml-1m.zip", twice, "application/zip")
    _, log, described = prepared("ml-1m")
    assert [tuple(row.values()) for row in log] == [("1", "2", 40, 5.0, "train")]
    assert described["steps"] == {"interactions read": 2, "that repeat a pair": 1}


def test_a_film_without_a_line_keeps_its_ratings(prepared, site):
    content = archive(
        "ml-1m", {"ratings.dat": "1::2::3::50\n1::3::3::50\n", "movies.dat": "2::A::B\n"}
    )
    site.put("/ml-1m.zip", content, "application/zip")
    items, log, _ = prepared("ml-1m")
    assert [(item["item_id"], item["text"]) for item in items] == [("2", "A. B"), ("3", None)]
    assert len(log) == 2


def test_details_for_the_text(movielens, prepared, write):
    details = write(
        "details.tsv", "movieId\ttitle\toverview", "10\tOther\tA  cat", "2\tX\tA dog", "99\tY\tZ"
    )
    words = ("--details", details, "--text", "{title}. {overview}")
    items, _, _ = prepared("ml-1m", *words)
    assert [item["text"] for item in items] == [
        "Toy Story (1995)",
        "2001: A Space Odyssey (1968). A cat",
        "Misérables, Les (1995). A dog",
    ]
    assert [item["overview"] for item in items] == [None, "A  cat", "A dog"]
    assert f"left out of {details}: title" in movielens("ml-1m", *words).err


def test_the_name_of_one_column_is_a_text(prepared):
    items, _, _ = prepared("ml-100k", "--text", "title")
    assert [item["text"] for item in items] == [film[2] for film in OF_100K]


def test_details_that_do_not_fit(refused, write, site):
    other = write("other.csv", "itemID,overview", "a,A cat")
    assert "no id of" in refused("ml-1m", "--details", other, "--text", "{overview}")
    twice = write("twice.csv", "itemID,overview", "1,A", "1,B")
    assert "stand in more than one row" in refused("ml-1m", "--details", twice)
    site.forget()
    assert "unknown column of the items 'plot'" in refused("ml-100k", "--text", "{plot}")
    assert "there is no file" in refused("ml-100k", "--details", "nowhere.tsv")
    assert site.requests == []  # told before anything is fetched


def test_posters_from_a_folder(prepared, tmp_path):
    folder = tmp_path / "posters"
    folder.mkdir()
    (folder / "2.jpg").write_bytes(picture(2))
    (folder / "1.PNG").write_bytes(picture(1, kind="PNG"))
    items, _, described = prepared("ml-100k", "--images", folder)
    assert [item["image"] for item in items] == ["1.png", None, "2.jpg"]
    assert (tmp_path / "data/ml-100k/images/2.jpg").read_bytes() == picture(2)
    assert described["counts"]["pictures"] == 2
    ledger = pq.read_table(tmp_path / "data/ml-100k/ledger.parquet").to_pylist()
    assert [(row["item_id"], row["modality"], row["problem"]) for row in ledger] == [
        ("10", "image", "missing")
    ]
    assert [
        item["item_id"]
        for item in prepared("less", "--release", "ml-100k", "--images", folder, "--need", "image")[
            0
        ]
    ] == ["1", "2"]


def test_posters_by_url(prepared, site, write, tmp_path):
    urls = {"1": site.put("/p/one.jpg", picture(1)), "10": site.url + "/p/none.jpg"}
    table = write("posters.csv", "movieId,poster_url", *(",".join(pair) for pair in urls.items()))
    items, _, described = prepared("ml-25m", "--posters", table)
    assert [item["image"] for item in items] == ["1.jpg", None, None]
    assert [item["image_url"] for item in items] == [*urls.values(), None]
    assert (tmp_path / "data/ml-25m/images/1.jpg").read_bytes() == picture(1)
    ledger = pq.read_table(tmp_path / "data/ml-25m/ledger.parquet").to_pylist()
    assert [row["item_id"] for row in ledger] == ["10", "2"]
    assert set(described["source"]["files"]) == {"archive", "posters"}
    site.forget()
    prepared("ml-25m", "--posters", table)
    assert site.requests == []


def test_without_posters_there_are_none_and_no_ledger(prepared, tmp_path):
    items, _, described = prepared("ml-1m")
    assert {item["image"] for item in items} == {None}
    assert described["settings"]["images"] == "none"
    assert not (tmp_path / "data/ml-1m/ledger.parquet").exists()


def test_posters_that_cannot_be_had(refused, write, site):
    table = write("posters.csv", "movieId,where", "1,http://x.example/1.jpg")
    assert "has no column of URLs; found movieId, where" in refused("ml-1m", "--posters", table)
    site.forget()
    assert "go together" in refused("ml-1m", "--posters", table, "--images", "none")
    assert "go together" in refused("ml-1m", "--images", "fetch")
    assert "no folder of pictures nowhere" in refused("ml-1m", "--images", "nowhere")
    assert "--need image" in refused("ml-1m", "--need", "image")
    assert site.requests == []


WHOLE = ARCHIVES["ml-1m"]
FLIPPED = bytearray(WHOLE)
FLIPPED[60] ^= 0xFF
FILM = "1::Toy Story (1995)::Comedy\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (WHOLE[: len(WHOLE) // 2], "not a zip file"),
        (bytes(FLIPPED), ""),
        (ARCHIVES["ml-100k"], "no item named 'ml-1m/ratings.dat'"),
        (archive("ml-1m", {"ratings.dat": "1::1::5::1\n"}), "no item named 'ml-1m/movies.dat'"),
        (archive("ml-1m", {"ratings.dat": "1::1:x:5::1\n", "movies.dat": FILM}), "'x'"),
        (archive("ml-1m", {"ratings.dat": "1::1::good::1\n", "movies.dat": FILM}), "'good'"),
        (archive("ml-1m", {"ratings.dat": "1::1::5\n", "movies.dat": FILM}), "Expected 7 columns"),
        (archive("ml-1m", {"ratings.dat": "1::::5::1\n", "movies.dat": FILM}), "have no item_id"),
        (archive("ml-1m", {"ratings.dat": "", "movies.dat": FILM}), "Empty"),
        (archive("ml-1m", {"ratings.dat": "1::1::5::1\n", "movies.dat": "1|A|B\n"}), "'1|A|B'"),
    ],
    ids=range(10),
)
def test_an_archive_that_is_not_as_published(refused, site, tmp_path, content, told):
    site.put("/ml-1m.zip", content, "application/zip")
    path = tmp_path / "downloads/movielens/ml-1m/ml-1m.zip"
    error = refused("ml-1m")
    assert error.startswith(f"error: {path} is not the archive ml-1m.zip as it is published (")
    assert told in error
    assert "remove the file" in error
    # Which helps.
    path.unlink()
    site.put("/ml-1m.zip", WHOLE, "application/zip")
    assert "core" in refused("ml-1m", "--k-core", "9")


def test_a_member_that_would_be_too_large_is_not_read(refused, monkeypatch):
    monkeypatch.setattr("pipelines.sources.movielens_files.LARGEST", 100)
    assert "ml-1m/ratings.dat is said to have 119 bytes" in refused("ml-1m")


def test_a_column_that_is_missing(refused, site):
    members = {"ratings.csv": "user,movie\n1,1\n", "movies.csv": "", "links.csv": ""}
    site.put("/ml-25m.zip", archive("ml-25m", members), "application/zip")
    assert "'userId'" in refused("ml-25m")


def test_a_page_instead_of_the_archive(refused, site, tmp_path):
    site.put("/ml-1m.zip", b"<html>Out of order</html>", "text/html")
    error = refused("ml-1m")
    assert "ml-1m.zip cannot be fetched" in error
    assert str(tmp_path / "downloads/movielens/ml-1m/ml-1m.zip") in error


@pytest.mark.realdata
def test_the_real_ratings_in_the_published_form(prepared, real_data, site):
    folder = real_data / "ml100k"
    ratings = (folder / "interactions.tsv").read_text().split("\n", 1)[1]
    lines = (folder / "items.tsv").read_text(encoding="utf-8").splitlines()[1:]
    films = []
    for line in lines:
        film, title, _, genres, *_ = line.split("\t")
        told = {"Children": "Children's", "genre_unknown": "unknown"}
        named = flags(*(told.get(genre, genre) for genre in genres.split("|")))
        films.append(f"{film}|{title}|01-Jan-1995||http://us.imdb.com/|{named}\n")
    members = {
        "u.data": ratings,
        "u.item": "".join(films).encode("latin-1"),
        "u.genre": "".join(f"{genre}|{n}\n" for n, genre in enumerate(GENRES)) + "\n",
    }
    site.put("/ml-100k.zip", archive("ml-100k", members), "application/zip")
    items, log, described = prepared("ml-100k")
    counts = described["counts"]
    assert (counts["users"], counts["items"], counts["interactions"]) == (943, 1682, 100_000)
    sizes = {}
    for row in log:
        sizes.setdefault(row["user_id"], []).append(row["split"])
    for splits in sizes.values():
        held_out = int(0.2 * len(splits))
        assert splits.count("validation") == held_out // 2
        assert splits.count("test") == held_out - held_out // 2
    by_id = {line.split("\t")[0]: line.split("\t") for line in lines}
    for item in items:
        assert item["title"] == by_id[item["item_id"]][1]
