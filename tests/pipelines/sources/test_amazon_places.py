"""Which category is made, under which name, and from which server it is fetched."""

import json

import pytest
from support.amazon_files import packed, small_shop
from support.web import Site

from pipelines.sources import amazon, amazon_2018, amazon_2023

FILES = ["reviews_Baby_5.json.gz", "meta_Baby.json.gz"]


@pytest.fixture
def prepare(mmrec, tmp_path):
    """Prepare without pictures; gives the outcome."""

    def call(words, *arguments):
        options = ("--k-core", 3, "--wait", 0, "--images", "none")
        return mmrec(
            f"prepare {words}", *arguments, *options, "--downloads", tmp_path / "downloads"
        )

    return call


def asked(site):
    return [request.path for request in site.requests]


def test_the_category_may_have_another_name_than_the_data_set(prepare, site, tmp_path):
    small_shop(site)
    for name in ("baby", "Baby", "BABY"):
        outcome = prepare(f"amazon --dataset mine --category {name} --url", site.url)
        assert outcome.code == 0, outcome.err
    described = json.loads((tmp_path / "data" / "mine" / "dataset.json").read_text())
    assert described["settings"]["category"] == "Baby"
    assert len(asked(site)) == 2


def test_a_full_name_in_small_letters_will_do(prepare, site):
    assert prepare("amazon --dataset video-games --url", site.url).code == 1
    assert asked(site)[0] == "/categoryFiles/reviews_Video_Games_5.json.gz"


@pytest.mark.parametrize("words", ["--dataset sprots", "--dataset mine --category sprots"])
def test_an_unknown_category_is_refused_with_the_nearest(prepare, site, words):
    outcome = prepare(f"amazon {words} --url", site.url)
    assert outcome.code == 1
    assert "unknown category 'sprots'; did you mean 'sports'" in outcome.error
    assert "--category" in outcome.error
    assert asked(site) == []


def test_a_full_name_that_is_not_known_is_asked_for(prepare, site):
    outcome = prepare("amazon-2023 --dataset mine --category Baby_Product --url", site.url)
    assert outcome.code == 1
    assert "Baby_Product.csv.gz cannot be fetched" in outcome.error
    assert "did you mean 'Baby_Products'" in outcome.error
    assert asked(site)[0] == "/benchmark/5core/rating_only/Baby_Product.csv.gz"


@pytest.mark.parametrize("name", ["../Baby", "Baby/..", "Baby{}", ".Baby", "Baby%2F"])
def test_a_category_is_no_path(prepare, site, name):
    outcome = prepare("amazon --dataset mine --url", site.url, "--category", name)
    assert outcome.code == 1
    assert "unknown category" in outcome.error
    assert asked(site) == []


def test_a_mirror_may_hold_the_files_without_their_folders(prepare, site):
    for name in FILES:
        site.put(f"/mirror/{name}", packed("{"), "application/gzip")
    prepare("amazon --dataset baby --url", f"{site.url}/mirror/")
    folders = [f"/mirror/categoryFiles/{name}" for name in FILES]
    assert asked(site) == [folders[0], f"/mirror/{FILES[0]}", folders[1], f"/mirror/{FILES[1]}"]


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("amazon", "MMREC_AMAZON_URL"),
        ("amazon-2018", "MMREC_AMAZON_2018_URL"),
        ("amazon-2023", "MMREC_AMAZON_2023_URL"),
    ],
)
def test_the_option_wins_over_the_environment(prepare, site, monkeypatch, kind, variable):
    monkeypatch.setenv(variable, f"{site.url}/environment")
    words = f"{kind} --dataset electronics"
    assert prepare(words).code == 1
    assert {path.split("/")[1] for path in asked(site)} == {"environment"}
    site.forget()
    with Site() as other:
        assert prepare(f"{words} --url", other.url).code == 1
        assert asked(site) == []
        assert asked(other)


def test_metadata_do_not_lead_to_this_machine_unless_the_user_does(mmrec, tmp_path, site):
    small_shop(site)
    command = "prepare amazon --dataset baby --k-core 3 --overwrite --downloads"
    where = ("--url", site.url)
    assert mmrec(command, tmp_path, *where, "--images", "none").code == 0
    site.forget()
    outcome = mmrec(command, tmp_path)
    assert "pictures refused: 3" in outcome.err
    assert asked(site) == []
    outcome = mmrec(command, tmp_path, *where, "--again")
    assert "refused" not in outcome.err
    assert len(asked(site)) == 3


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (amazon.Amazon2014Config, 24),
        (amazon_2018.Amazon2018Config, 29),
        (amazon_2023.Amazon2023Config, 33),
    ],
)
def test_categories_are_what_is_published(config, count):
    assert len(set(config.full_names)) == len(config.full_names) == count
    assert set(config.short_names.values()) <= set(config.full_names)
