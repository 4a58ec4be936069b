"""Pictures that could not be fetched are told by mmrec-check, each with its reason."""

from support.amazon_files import small_shop
from support.web import Answer

SHOP = "prepare amazon --dataset baby --k-core 3 --attempts 1"


def test_check_says_why_a_picture_is_not_there(mmrec, refused, site, tmp_path):
    small_shop(site)
    site.answer("/images/I/0%2B.jpg", Answer(403))
    where = ("--url", site.url, "--downloads", tmp_path / "downloads")
    assert mmrec(SHOP, *where).code == 0
    checked = mmrec("check --dataset baby")
    assert checked.code == 0
    assert "B000 (refused: HTTP 403 Said)" in checked.out
    assert "B003 (missing: the metadata has no URL)" in checked.out

    (tmp_path / "data" / "baby" / "ledger.parquet").write_bytes(b"torn")
    assert "ledger.parquet cannot be read" in refused("check --dataset baby")
